"""A real gateway process for black-box tests: its routes file, its ports, and clients that speak plain sockets."""

import asyncio
import contextlib
import http.client
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from facts import DEADLINE_SECONDS, soon, until
from fake_engine import MASTER_KEY, FakeEngine
from held_ports import a_port
from shoal_api.routes import ModelRoute, RouteDocument

CREATED = datetime(2026, 1, 2, tzinfo=UTC)
PATIENT = {"connectSeconds": 60}
"""Engines in a test's own loop may say hello late: no replica is passed over for that unless a test wants it."""


def a_route(*engines: FakeEngine, name: str = "m", model_uid: str = "uid-m", **fields: Any) -> ModelRoute:
    fields = {"served_name": name, "names": [name, f"{name}-alias"], **fields}
    fields["timeouts"] = PATIENT | fields.get("timeouts", {})
    return ModelRoute(
        namespace="default",
        name=name,
        uid=model_uid,
        created=CREATED,
        endpoints=[engine.endpoint() for engine in engines],
        **fields,
    )


@dataclass
class Gateway:
    """A running gateway program."""

    process: subprocess.Popen[str]
    port: int
    internal: int
    routes: Path
    output: Path

    def put(self, *models: ModelRoute) -> None:
        """Replace the routes file, and wait until the gateway has it in force."""
        before = self.log().count("reason=Routes")
        temporary = self.routes.with_suffix(".new")
        temporary.write_text(RouteDocument(models=list(models)).model_dump_json(by_alias=True))
        temporary.replace(self.routes)
        until(lambda: self.log().count("reason=Routes") > before)

    def log(self) -> str:
        return self.output.read_text()

    def get(self, path: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.internal, timeout=DEADLINE_SECONDS)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's rows with these labels."""
        total = 0.0
        for line in self.get("/metrics").splitlines():
            if line.split("{")[0].split(" ")[0] == name and all(f'{k}="{v}"' in line for k, v in labels.items()):
                total += float(line.rsplit(" ", 1)[1])
        return total

    def load(self) -> Any:
        return json.loads(self.get("/load"))

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                return self.process.wait(DEADLINE_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()


def command(*flags: str) -> list[str]:
    return [sys.executable, "-m", "shoal_serving.gateway", *flags]


@contextlib.contextmanager
def a_gateway(folder: Path, *flags: str, kubeconfig: Path | None = None, access_log: str = "") -> Iterator[Gateway]:
    """With a routes file, or on the Kubernetes of a kubeconfig; its access log in the file of its log, or another."""
    port, internal = a_port(), a_port()
    key = folder / "master-key"
    key.write_text(MASTER_KEY.hex() + "\n")
    routes = folder / "routes.json"
    routes.write_text(RouteDocument().model_dump_json(by_alias=True))
    output = folder / "gateway.log"
    output.write_text("")
    with output.open("a") as out, Path(access_log or output).open("a") as access:
        process = subprocess.Popen(
            command(
                *([f"--routes={routes}"] if kubeconfig is None else ["--kubernetes", f"--kubeconfig={kubeconfig}"]),
                f"--master-key-file={key}",
                f"--listen=127.0.0.1:{port}",
                f"--internal=127.0.0.1:{internal}",
                *flags,
            ),
            stdout=access,
            stderr=out,
            text=True,
        )
    gateway = Gateway(process, port, internal, routes, output)
    try:
        until(lambda: "reason=Listening" in gateway.log() or process.poll() is not None)
        assert process.poll() is None, gateway.log()
        yield gateway
    finally:
        gateway.stop()


def one_gateway(*flags: str) -> Any:
    """A fixture: one gateway for all tests of a module, none of which made it stumble."""

    @pytest.fixture(scope="module", name="gateway")
    def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
        with a_gateway(tmp_path_factory.mktemp("gateway"), *flags) as gateway:
            yield gateway
            assert "Traceback" not in gateway.log()

    return running


async def put(gateway: Gateway, *running: FakeEngine, **fields: Any) -> None:
    """One model on these engines, in force."""
    await asyncio.to_thread(gateway.put, a_route(*running, **fields))


async def nothing_is_left(gateway: Gateway) -> None:
    """Every gauge of requests back at zero."""

    def at_zero() -> bool:
        return (
            gateway.metric("shoal_requests_in_flight") == 0
            and gateway.metric("shoal_requests_waiting") == 0
            and gateway.metric("shoal_held_bytes") == 0
            and gateway.load()["models"] == {}
        )

    await soon(at_zero)


@dataclass
class Answer:
    """What a client got. `whole` is false where the connection ended in the middle of it."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]

    @property
    def events(self) -> list[str]:
        """The data of every event."""
        assert self.body.endswith(b"\n\n") or not self.body, "half an event"
        return [
            line.removeprefix("data: ")
            for event in self.body.decode().split("\n\n")
            for line in event.split("\n")
            if line.startswith("data: ")
        ]

    @property
    def text(self) -> str:
        """The text of a stream's tokens."""
        found = [json.loads(event) for event in self.events if event != "[DONE]"]
        return "".join(event["choices"][0]["delta"]["content"] for event in found if "choices" in event)


class Client:
    """A connection to the gateway that says exactly the bytes it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    @contextlib.asynccontextmanager
    async def connect(cls, gateway: Gateway, limit: int = 2**16, source: str = "") -> AsyncIterator["Client"]:
        """`source`: the loopback address to connect from."""
        own = (source, 0) if source else None
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=limit, local_addr=own)
        try:
            yield cls(reader, writer)
        finally:
            writer.transport.abort()

    def send(self, body: Any, path: str = "/v1/chat/completions", headers: str = "") -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        if "content-type" not in headers:
            headers += "content-type: application/json\r\n"
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n{headers}\r\n"
        self.writer.write(head.encode() + content)

    async def head(self) -> Answer:
        async with asyncio.timeout(DEADLINE_SECONDS):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        answer = Answer(status=int(lines[0].split(" ")[1]))
        answer.headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines[1:] if line)}
        return answer

    async def answer(self) -> Answer:
        answer = await self.head()
        try:
            if "content-length" in answer.headers:
                answer.body = await self.reader.readexactly(int(answer.headers["content-length"]))
                answer.whole = True
            elif answer.headers.get("transfer-encoding") == "chunked":
                while (size := int(await self.reader.readuntil(b"\r\n"), 16)) > 0:
                    answer.body += await self.reader.readexactly(size)
                    await self.reader.readexactly(2)
                await self.reader.readexactly(2)
                answer.whole = True
            else:
                answer.body = await self.reader.read()
                answer.whole = True
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        return answer

    async def is_closed(self) -> bool:
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True


async def ask(
    gateway: Gateway, body: Any, path: str = "/v1/chat/completions", headers: str = "", source: str = ""
) -> Answer:
    """One request on a connection of its own."""
    async with Client.connect(gateway, source=source) as client:
        client.send(body, path, headers)
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await client.answer()


def fetch(gateway: Gateway, path: str, method: str = "GET", headers: dict[str, str] | None = None) -> Answer:
    """A request without a body, by a library of the standard."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=DEADLINE_SECONDS)
    try:
        connection.request(method, path, headers=headers or {})
        found = connection.getresponse()
        return Answer(found.status, {n.lower(): v for n, v in found.getheaders()}, found.read(), whole=True)
    finally:
        connection.close()


def chat(stream: bool = False, model: str = "m", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream, **fields}
