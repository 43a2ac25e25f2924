"""Simulated engines for tests: one inside the test's own loop, or a whole program in a process of its own."""

import asyncio
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from facts import DEADLINE_SECONDS
from held_ports import a_port
from shoal_api import proof
from shoal_api.replica_config import ReplicaConfig
from shoal_serving.replica.admission import Admission
from shoal_serving.simulator.connection import Connection
from shoal_serving.simulator.control import Control
from shoal_serving.simulator.gatekeeping import Gatekeeper
from shoal_serving.simulator.knobs import Knobs
from shoal_serving.simulator.model import Model
from shoal_serving.simulator.service import Service

KEY = bytes(range(32))
UID = "4b5c5a6e-0000-4000-8000-000000000001"
NONCE = "0123456789abcdef" * 2
CHAT = "/v1/chat/completions"


@dataclass(slots=True)
class Heard:
    """One answer as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_whole: bool = True
    """False where the connection ended before the answer did."""

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[str]:
        """The data of each event of a stream; a half event at the end is left out."""
        found: list[str] = []
        for event in self.body.decode().split("\n\n")[:-1]:
            found.extend(line.removeprefix("data: ") for line in event.split("\n") if line.startswith("data: "))
        return found

    @property
    def text(self) -> str:
        """The text of a chat or completion, streamed or whole."""
        if "event-stream" not in self.headers.get("content-type", ""):
            return "".join(_texts(self.json()))
        return "".join(text for event in self.events if event != "[DONE]" for text in _texts(json.loads(event)))


def _texts(content: Any) -> list[str]:
    texts = []
    for choice in content.get("choices", []):
        part = choice.get("delta") or choice.get("message") or choice
        texts.append(part.get("content") or part.get("text") or "")
    return texts


class Client(asyncio.Protocol):
    """A connection that keeps everything that arrives, even where a reset follows it."""

    def __init__(self, fixed: dict[str, str]) -> None:
        self._fixed = fixed
        self._transport: Any = None
        self._buffer = bytearray()
        self._news = asyncio.Event()
        self._end = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end = "reset" if exc else "fin"
        self._news.set()

    def eof_received(self) -> None:
        self._end = "fin"
        self._news.set()

    async def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Heard:
        self.send(method, path, body, headers)
        return await self.hear()

    def send(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> None:
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = {"host": "test", "content-length": str(len(content)), **self._fixed, **(headers or {})}
        if body is not None:
            fields.setdefault("content-type", "application/json")
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + content)

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    async def hear(self) -> Heard:
        status_line, *lines = (await self.up_to(b"\r\n\r\n")).decode().rstrip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        heard = Heard(int(status_line.split()[1]), headers, b"")
        try:
            if headers.get("transfer-encoding") == "chunked":
                chunks: list[bytes] = []
                try:
                    while data := await self.chunk():
                        chunks.append(data)
                finally:
                    heard.body = b"".join(chunks)
            else:
                heard.body = await self.exactly(int(headers["content-length"]))
        except EOFError as error:
            heard.body += error.args[0]
            heard.is_whole = False
        return heard

    async def chunk(self) -> bytes:
        """One chunk of a stream: one event; empty at its end."""
        size = int((await self.up_to(b"\r\n")).strip(), 16)
        return (await self.exactly(size + 2))[:-2]

    async def heard_end(self) -> str:
        """How the connection ended: `fin` or `reset`; `data` where something came."""
        while not self._buffer and not self._end:
            await self._more()
        return "data" if self._buffer else self._end

    async def up_to(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            await self._more()
        return self._take(self._buffer.index(mark) + len(mark))

    async def exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._more()
        return self._take(size)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    async def _more(self) -> None:
        if self._end:
            raise EOFError(bytes(self._buffer))
        self._news.clear()
        await asyncio.wait_for(self._news.wait(), DEADLINE_SECONDS)

    def pause(self) -> None:
        """Reads nothing any more, as a slow client."""
        self._transport.pause_reading()

    def resume(self) -> None:
        self._transport.resume_reading()

    def leave(self) -> None:
        self._transport.abort()


@dataclass(slots=True)
class Simulated:
    """A simulated engine that listens in this loop."""

    service: Service
    port: int
    listening: bool = True

    @asynccontextmanager
    async def client(self, headers: dict[str, str] | None = None) -> AsyncIterator[Client]:
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(lambda: Client(headers or {}), "127.0.0.1", self.port)
        try:
            yield client
        finally:
            client.leave()

    async def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Heard:
        async with self.client() as client:
            return await client.ask(method, path, body, headers)

    async def until(self, **facts: object) -> None:
        """Waits until `/simulator/state` says so; for engines that let everybody in."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            state = (await self.ask("GET", "/simulator/state")).json()
            if all(state[name] == value for name, value in facts.items()):
                return
            await asyncio.sleep(0.005)
        raise AssertionError(f"{facts} never came true; last seen {state}")

    async def until_in_flight(self, number: int) -> None:
        """The same where control paths need a MAC."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            if self.service.gatekeeper.in_flight == number:
                return
            await asyncio.sleep(0.005)
        raise AssertionError(f"{self.service.gatekeeper.in_flight} in flight, never {number}")


@asynccontextmanager
async def simulated(knobs: Knobs | None = None, admission: Admission | None = None) -> AsyncIterator[Simulated]:
    """An engine called `m`, open to all unless it has an admission."""
    loop = asyncio.get_running_loop()
    gatekeeper = Gatekeeper(admission, time.monotonic)
    service = Service(Model("m", "m", knobs or Knobs()), gatekeeper, loop, time.monotonic)
    server = await loop.create_server(lambda: Connection(service, loop), "127.0.0.1", 0)
    gatekeeper.ready = True
    engine = Simulated(service, server.sockets[0].getsockname()[1])
    service.replica = "sim-0"
    service.control = Control(service, lambda _seconds: None, lambda: None)
    try:
        yield engine
    finally:
        server.close()
        for _ in range(3):  # one may be accepted just now
            for connection in [*service.connections]:
                connection.close()
            await asyncio.sleep(0)


def run_async(main: Any) -> None:
    """As the program runs it."""
    uvloop.run(main)


def an_admission(settle_seconds: float = 0.0) -> Admission:
    return Admission(KEY, UID, settle_seconds)


def a_mac() -> dict[str, str]:
    return {proof.MAC_HEADER: proof.request_mac(KEY, NONCE, UID)}


def a_chat(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "Hello there"}], "max_tokens": 8, **fields}


@dataclass(slots=True)
class ReplicaProcess:
    """The whole program in its own process."""

    process: subprocess.Popen[str]
    config: ReplicaConfig

    @property
    def stages(self) -> list[str]:
        file = self.config.directory / "report.jsonl"
        return [json.loads(line)["stage"] for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def last_words(self) -> str:
        return self.config.termination_message.read_text() if self.config.termination_message.exists() else ""

    def wait_for_stage(self, stage: str) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while stage not in self.stages:
            if time.monotonic() > deadline:
                raise AssertionError(f"the replica is at {self.stages}, not at {stage}")
            time.sleep(0.01)

    def health(self) -> int:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.config.port}/health", timeout=DEADLINE_SECONDS
            ) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except OSError:
            return 0

    def exit_code(self) -> int:
        return self.process.wait(DEADLINE_SECONDS)


@contextmanager
def replica_process(folder: Path, *args: str, **fields: Any) -> Iterator[ReplicaProcess]:
    """`python -m shoal_serving.simulator --config FILE`; ends with the test."""
    key_file, file = folder / "key", folder / "config.json"
    key_file.write_text(KEY.hex())
    config = ReplicaConfig(
        **{
            "model": "default/m",
            "replica": "m-0",
            "replica_uid": UID,
            "revision": "r1",
            "served_name": "m",
            "source": "/nowhere",
            "host": "127.0.0.1",
            "port": a_port(),
            "settle_seconds": 0.1,
            "drain_seconds": 5,
            "model_key_file": key_file,
            "ray_token_file": folder / "token",
            "directory": folder / "scratch",
            "termination_message": folder / "termination",
            "args": list(args),
            **fields,
        }
    )
    file.write_text(config.model_dump_json(by_alias=True))
    command = [sys.executable, "-m", "shoal_serving.simulator", "--config", str(file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield ReplicaProcess(process, config)
    finally:
        process.kill()
        process.communicate()
