"""A scriptable stand-in for one replica, inside the test's own loop: says hello, then does what the test tells it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from shoal_api import proof
from shoal_api.routes import Endpoint

MASTER_KEY = bytes(range(32))


@dataclass
class Call:
    """One request that reached the engine, and the pen to answer it with."""

    path: str
    headers: dict[str, str]
    body: bytes
    writer: asyncio.StreamWriter
    number: int
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """The gateway closed the connection before the answer was through."""

    @property
    def asked(self) -> Any:
        return json.loads(self.body)

    def raw(self, data: bytes) -> None:
        self.writer.write(data)

    def json(self, found: Any, status: int = 200, headers: str = "") -> None:
        body = json.dumps(found).encode()
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
        self.raw(head.encode() + body)

    def head(self, content_type: str = "text/event-stream; charset=utf-8") -> None:
        self.raw(f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n".encode())

    def chunk(self, data: bytes) -> None:
        self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    def event(self, found: Any) -> None:
        self.chunk(b"data: " + (found if isinstance(found, bytes) else json.dumps(found).encode()) + b"\n\n")

    def token(self, text: str) -> None:
        self.event(
            {"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}}]}
        )

    def done(self) -> None:
        self.event(b"[DONE]")
        self.raw(b"0\r\n\r\n")

    def reset(self) -> None:
        self.writer.transport.abort()

    async def flushed(self) -> None:
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()


Behaviour = Callable[[Call], Awaitable[None]]


async def answer(call: Call) -> None:
    """An ordinary answer: a completion, or a stream of three tokens."""
    if call.asked.get("stream"):
        call.head()
        for text in ("one", " two", " three"):
            call.token(text)
            await call.flushed()
            await asyncio.sleep(0.001)
        call.done()
    else:
        call.json({"id": "c", "object": "chat.completion", "choices": [{"index": 0, "message": {"content": "hi"}}]})


async def hang(call: Call) -> None:
    """No byte, until the gateway gives up."""
    await call.gone.wait()


async def close(call: Call) -> None:
    call.writer.close()


async def reset(call: Call) -> None:
    call.reset()


def status(code: int, found: Any = None, headers: str = "") -> Behaviour:
    """An error status with a body as vLLM makes it."""

    async def behave(call: Call) -> None:
        error = {"message": f"status {code}", "type": "InternalServerError", "param": None, "code": code}
        call.json(found if found is not None else {"error": error}, code, headers)

    return behave


busy = status(503, {"error": {"message": "busy"}}, f"{proof.BUSY_HEADER}: limit\r\n")


def first_event_error(code: int) -> Behaviour:
    """200, and the first event of the stream is an error."""

    async def behave(call: Call) -> None:
        call.head()
        call.chunk(b": keep-alive\n\n")
        call.event({"error": {"message": "no room", "type": "X", "param": None, "code": code}})
        call.done()

    return behave


def tokens_then(count: int, then: Behaviour) -> Behaviour:
    """A stream of so many tokens, then something else."""

    async def behave(call: Call) -> None:
        call.head()
        for number in range(count):
            call.token(f"t{number} ")
        await call.flushed()
        await asyncio.sleep(0.03)
        await then(call)

    return behave


async def error_event_and_done(call: Call) -> None:
    """What vLLM does when its engine core dies during a stream."""
    call.event({"error": {"message": "EngineCore encountered an issue", "type": "X", "param": None, "code": 500}})
    call.done()


async def half_an_event(call: Call) -> None:
    call.chunk(b'data: {"choices": [{"del')
    await call.flushed()
    await asyncio.sleep(0.03)
    call.writer.close()


class FakeEngine:
    """A server on a loopback port. `script` is used up first, then `always` answers."""

    def __init__(self, name: str, model_uid: str = "uid-m", uid: str = "") -> None:
        self.name = name
        self.uid = uid or f"uid-{name}"
        self.key = proof.model_key(MASTER_KEY, model_uid)
        self.calls: list[Call] = []
        self.always: Behaviour = answer
        self.script: list[Behaviour] = []
        self.hellos_at: list[float] = []
        """When each hello came, by the loop's clock."""
        self.connections = 0
        self.running = 0
        self.most_running = 0
        self.idle_seconds: float | None = None
        """Closes a connection that is idle for so long, as vLLM does."""
        self.before_hello: Callable[[], Awaitable[object]] | None = None
        """What a hello has to wait for."""
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self, port: int = 0) -> "FakeEngine":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port or self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Listen no more, and cut everything."""
        if self._server is not None:
            self._server.close()
        for _ in range(3):  # one may be accepted just now
            for writer in list(self._writers):
                writer.transport.abort()
            await asyncio.sleep(0)

    def refuse_new(self) -> None:
        """Listen no more; what is connected stays."""
        if self._server is not None:
            self._server.close()

    @property
    def hellos(self) -> int:
        return len(self.hellos_at)

    def endpoint(self) -> Endpoint:
        return Endpoint(replica=self.name, uid=self.uid, host="127.0.0.1", port=self.port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        async with asyncio.timeout(self.idle_seconds):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        _, path, _ = head[0].split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if path == proof.HELLO_PATH:
            self.hellos_at.append(asyncio.get_running_loop().time())
            if self.before_hello is not None:
                await self.before_hello()
            given = proof.hello_proof(self.key, headers[proof.NONCE_HEADER], self.uid)
            writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{proof.PROOF_HEADER}: {given}\r\n\r\n".encode())
            return True
        call = Call(path, headers, body, writer, len(self.calls))
        self.calls.append(call)
        if not proof.is_right_mac(self.key, self.uid, headers.get(proof.MAC_HEADER, "")):
            call.json({"error": "misdirected"}, 421)
            return True
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        behave = self.script.pop(0) if self.script else self.always
        working = asyncio.ensure_future(behave(call))
        watching = asyncio.ensure_future(_until_closed(reader))
        try:
            await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                call.gone.set()
                with contextlib.suppress(TimeoutError, ConnectionError):
                    async with asyncio.timeout(1):
                        await working
                return False
            await working
        finally:
            self.running -= 1
            for task in (working, watching):
                task.cancel()
            await asyncio.gather(working, watching, return_exceptions=True)
        await call.flushed()
        return not writer.transport.is_closing()


async def _until_closed(reader: asyncio.StreamReader) -> None:
    # The gateway sends nothing while it waits for an answer, so end-of-file is the only news there can be.
    while not reader.at_eof():  # noqa: ASYNC110  (a reader tells its end to nobody)
        await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def engines(*names: str, model_uid: str = "uid-m") -> AsyncIterator[list[FakeEngine]]:
    started = [await FakeEngine(name, model_uid).start() for name in names]
    try:
        yield started
    finally:
        for engine in started:
            await engine.stop()
