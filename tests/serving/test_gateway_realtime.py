"""Realtime sessions through a gateway process: routed by query or first event, counted like requests, cut honestly."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from facts import DEADLINE_SECONDS, soon, until
from fleet import SimulatedReplica, a_fleet, a_route_to
from gateway_process import Answer, Gateway, a_gateway, a_route, fetch, one_gateway
from shoal_api import keys
from shoal_serving import websocket

PATH = "/v1/realtime"
KEY = base64.b64encode(bytes(16)).decode()
MASK = b"\x09\x08\x07\x06"
SOUND = base64.b64encode(bytes(3200)).decode()


gateway = one_gateway()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[SimulatedReplica]]:
    with a_fleet(tmp_path_factory.mktemp("fleet"), "a", "b", **{"any-model": "false"}) as running:
        yield running


@pytest.fixture(autouse=True)
def healthy(gateway: Gateway, fleet: list[SimulatedReplica]) -> None:
    gateway.put()
    for replica in fleet:
        replica.heal()


class Socket:
    """A client's WebSocket, frame by frame."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.answer = Answer()
        self._frames = websocket.Splitter()
        self._found: list[websocket.Frame] = []

    async def shake_hands(self, query: str = "", headers: str = "", key: str = KEY) -> None:
        head = f"GET {PATH}{query} HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
        head += f"sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n{headers}\r\n"
        self.writer.write(head.encode())
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        self.answer.status = int(lines[0].split(" ")[1])
        self.answer.headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines[1:] if line)}
        if self.answer.status != 101:
            self.answer.body = await self.reader.readexactly(int(self.answer.headers["content-length"]))

    def say(self, event: dict[str, Any] | bytes, opcode: int = websocket.TEXT) -> None:
        payload = event if isinstance(event, bytes) else json.dumps(event).encode()
        self.writer.write(websocket.frame(opcode, payload, MASK))

    def name(self, model: str) -> None:
        self.say({"type": "session.update", "model": model})

    async def frame(self) -> websocket.Frame:
        while not self._found:
            async with asyncio.timeout(DEADLINE_SECONDS):
                data = await self.reader.read(65536)
            assert data, "the connection ended"
            self._found += self._frames.feed(data)
        return self._found.pop(0)

    async def event(self) -> Any:
        found = await self.frame()
        assert found.opcode == websocket.TEXT, found
        return json.loads(found.payload)

    async def heard(self) -> tuple[str, Any]:
        """Send a sound, and return the text of the deltas and the last event."""
        self.say({"type": "input_audio_buffer.commit"})
        self.say({"type": "input_audio_buffer.append", "audio": SOUND})
        self.say({"type": "input_audio_buffer.commit", "final": True})
        text = ""
        while (event := await self.event())["type"] == "transcription.delta":
            text += event["delta"]
        return text, event

    async def closed(self) -> int:
        """The code that the other side closes with."""
        found = await self.frame()
        assert found.opcode == websocket.CLOSE
        return int.from_bytes(found.payload[:2], "big")


@contextlib.asynccontextmanager
async def a_socket(gateway: Gateway, *asked: str) -> AsyncIterator[Socket]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    socket = Socket(reader, writer)
    try:
        await socket.shake_hands(*asked)
        yield socket
    finally:
        writer.transport.abort()


async def nothing_is_left(gateway: Gateway) -> None:
    await soon(
        lambda: (
            gateway.load()["models"] == {}
            and gateway.metric("shoal_open_connections") == 0
            and gateway.metric("shoal_requests_waiting") == 0
        )
    )


def ended(gateway: Gateway, outcome: str) -> float:
    return gateway.metric("shoal_requests_total", route=PATH, outcome=outcome)


@pytest.mark.parametrize("name", ["m", "m-alias"])
@pytest.mark.parametrize("where", ["query", "first event", "query and event"])
def test_a_session_finds_its_model_and_hears(
    gateway: Gateway, fleet: list[SimulatedReplica], where: str, name: str
) -> None:
    async def story() -> None:
        async with a_socket(gateway, f"?model={name}" if "query" in where else "") as socket:
            assert socket.answer.status == 101
            assert socket.answer.headers["sec-websocket-accept"] == websocket.accept_key(KEY.encode()).decode()
            assert (await socket.event())["type"] == "session.created"
            if "event" in where:
                socket.name(name)
            text, last = await socket.heard()
            assert (last["type"], last["text"]) == ("transcription.done", text)
            assert text
            await soon(lambda: sum(replica.state()["inFlight"] for replica in fleet) == 1)
            socket.say(websocket.NORMAL.to_bytes(2, "big"), websocket.CLOSE)
            assert await socket.closed() == websocket.NORMAL
        await nothing_is_left(gateway)

    gateway.put(a_route_to(*fleet))
    before = ended(gateway, "ok")
    asyncio.run(story())
    until(lambda: ended(gateway, "ok") == before + 1)


def test_before_the_model_is_named_the_gateway_answers_itself(gateway: Gateway, fleet: list[SimulatedReplica]) -> None:
    async def story() -> None:
        async with a_socket(gateway) as socket:
            assert (await socket.event())["type"] == "session.created"
            socket.say(b"are you there", websocket.PING)
            found = await socket.frame()
            assert (found.opcode, found.payload) == (websocket.PONG, b"are you there")
            for wrong in (b"no json", b'{"type": "input_audio_buffer.commit"}', b'{"type": "session.update"}'):
                socket.say(wrong)
                assert (await socket.event())["code"] == "invalid_event"
            socket.name("nobody")
            assert (await socket.event())["code"] == "model_not_found"
            assert await socket.closed() == websocket.POLICY

    gateway.put(a_route_to(*fleet))
    asyncio.run(story())
    assert fleet[0].log() + fleet[1].log() == []


@pytest.mark.parametrize(
    ("query", "key", "status", "code"),
    [
        ("?model=nobody", KEY, 404, "model_not_found"),
        ("?model=m", "short", 400, "invalid_websocket"),
        ("?model=full", KEY, 429, "queue_full"),
        ("?model=empty", KEY, 503, "model_not_ready"),
    ],
)
def test_what_is_known_before_the_handshake_is_refused_as_a_request_is(
    gateway: Gateway, fleet: list[SimulatedReplica], query: str, key: str, status: int, code: str
) -> None:
    async def story() -> None:
        async with a_socket(gateway, query, "", key) as socket:
            assert (socket.answer.status, socket.answer.error["code"]) == (status, code)
            assert await socket.reader.read() == b""
        await nothing_is_left(gateway)

    gateway.put(
        a_route_to(*fleet),
        a_route(name="full", model_uid="uid-2", queue={"maxWaiting": 0}),
        a_route(name="empty", model_uid="uid-3", queue={"maxWaitSeconds": 0.2}),
    )
    asyncio.run(story())


def test_without_an_upgrade_the_path_says_what_it_is(gateway: Gateway) -> None:
    assert (fetch(gateway, PATH).status, fetch(gateway, PATH).error["code"]) == (426, "upgrade_required")
    assert fetch(gateway, PATH, "POST").headers["allow"] == "GET"


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "refuse"},
        {"kind": "hello-uid"},
        {"kind": "busy"},
        {"kind": "misdirected"},
        {"kind": "close"},
        {"kind": "close", "reset": True},
        {"kind": "garbage"},
        {"kind": "status", "code": 500},
        {"kind": "status", "code": 503},
    ],
    ids=lambda fault: "-".join(map(str, fault.values())),
)
def test_before_it_is_open_a_session_goes_to_another_replica(
    gateway: Gateway, fleet: list[SimulatedReplica], fault: dict[str, object]
) -> None:
    def tries() -> float:
        return gateway.metric("shoal_attempts_total", model="default/m")

    async def story() -> None:
        before = tries()
        for sessions in range(1, 60):
            async with a_socket(gateway, "?model=m") as socket:
                assert socket.answer.status == 101
                assert (await socket.event())["type"] == "session.created"
                assert (await socket.heard())[1]["type"] == "transcription.done"
            await nothing_is_left(gateway)
            if tries() > before + sessions:
                return
        raise AssertionError("nobody met the fault")

    bad, good = fleet
    bad.order(**fault)
    gateway.put(a_route_to(bad, good))
    asyncio.run(story())


def test_a_session_whose_replica_is_lost_is_told_so(gateway: Gateway, fleet: list[SimulatedReplica]) -> None:
    async def story() -> None:
        async with a_socket(gateway, "?model=m") as socket:
            assert (await socket.event())["type"] == "session.created"
            _, last = await socket.heard()
            assert (last["type"], last["code"]) == ("error", "upstream_lost")
            assert await socket.closed() == websocket.BROKEN
        await nothing_is_left(gateway)

    for replica in fleet:
        replica.order(kind="cut", after=4)
    gateway.put(a_route_to(*fleet))
    before = ended(gateway, "upstream_lost")
    asyncio.run(story())
    until(lambda: ended(gateway, "upstream_lost") == before + 1)


def test_a_client_that_leaves_frees_its_place_at_once(gateway: Gateway, fleet: list[SimulatedReplica]) -> None:
    async def story() -> None:
        async with a_socket(gateway, "?model=m") as socket:
            assert (await socket.event())["type"] == "session.created"
            assert gateway.load()["models"]["default/m"]["inFlight"] == 1
        await nothing_is_left(gateway)

    gateway.put(a_route_to(fleet[0]))
    before = ended(gateway, "cancelled")
    asyncio.run(story())
    until(lambda: ended(gateway, "cancelled") == before + 1)
    until(lambda: [entry["outcome"] for entry in fleet[0].log()] == ["aborted"])


def test_a_session_waits_for_room_and_what_it_says_meanwhile_is_kept(
    gateway: Gateway, fleet: list[SimulatedReplica]
) -> None:
    async def story() -> None:
        async with a_socket(gateway, "?model=m") as first:
            assert (await first.event())["type"] == "session.created"
            async with a_socket(gateway) as second:
                assert (await second.event())["type"] == "session.created"
                second.name("m")
                hearing = asyncio.ensure_future(second.heard())
                await soon(lambda: gateway.metric("shoal_requests_waiting") == 1)
                first.writer.transport.abort()
                assert (await hearing)[1]["type"] == "transcription.done"
        await nothing_is_left(gateway)

    gateway.put(a_route_to(fleet[0], queue={"maxInFlightPerReplica": 1}))
    asyncio.run(story())


def test_a_session_that_says_much_before_its_replica_is_there_is_heard_to_its_end(
    gateway: Gateway, fleet: list[SimulatedReplica]
) -> None:
    async def story() -> None:
        async with a_socket(gateway) as socket:
            assert (await socket.event())["type"] == "session.created"
            socket.name("m")
            await soon(lambda: gateway.metric("shoal_requests_waiting") == 1)
            hearing = asyncio.ensure_future(socket.heard())
            for _ in range(100):
                socket.say({"type": "input_audio_buffer.append", "audio": SOUND})
            # Answered behind all of that: the gateway reads no more where it holds as much as it may.
            await asyncio.to_thread(gateway.put, a_route_to(fleet[0]))
            assert (await hearing)[1]["type"] == "transcription.done"
        await nothing_is_left(gateway)

    gateway.put(a_route())
    asyncio.run(story())


def test_a_client_that_waits_for_a_replica_is_told_that_the_gateway_lives(gateway: Gateway) -> None:
    async def story() -> None:
        async with a_socket(gateway) as socket:
            assert (await socket.event())["type"] == "session.created"
            socket.name("m")
            await soon(lambda: gateway.metric("shoal_requests_waiting") == 1)
            socket.say(b"are you there", websocket.PING)
            found = await socket.frame()
            assert (found.opcode, found.payload) == (websocket.PONG, b"are you there")
        await nothing_is_left(gateway)

    gateway.put(a_route())
    asyncio.run(story())


def test_a_session_whose_client_talks_nonsense_ends_at_its_replica_too(
    gateway: Gateway, fleet: list[SimulatedReplica]
) -> None:
    async def story() -> None:
        async with a_socket(gateway, "?model=m") as socket:
            assert (await socket.event())["type"] == "session.created"
            socket.writer.write(b"\xf1\x00")
            assert (await socket.event())["code"] == "invalid_websocket"
            assert await socket.closed() == websocket.POLICY
            await soon(lambda: [entry["outcome"] for entry in fleet[0].log()] == ["aborted"])
        await nothing_is_left(gateway)

    gateway.put(a_route_to(fleet[0]))
    asyncio.run(story())


def test_a_session_that_both_sides_end_is_one_complete_attempt(gateway: Gateway, fleet: list[SimulatedReplica]) -> None:
    def complete() -> float:
        return gateway.metric("shoal_attempts_total", model="default/m", outcome="complete")

    async def story() -> None:
        async with a_socket(gateway, "?model=m") as socket:
            assert (await socket.event())["type"] == "session.created"
            socket.say(websocket.NORMAL.to_bytes(2, "big"), websocket.CLOSE)
            assert await socket.closed() == websocket.NORMAL
            await nothing_is_left(gateway)

    gateway.put(a_route_to(fleet[0]))
    before = complete()
    asyncio.run(story())
    until(lambda: complete() == before + 1)
    until(lambda: " outcome=ok status=101 attempts=1 " in gateway.log())


def test_keys_are_asked_for_also_as_browsers_send_them(tmp_path: Path, fleet: list[SimulatedReplica]) -> None:
    async def story() -> None:
        for headers, status in (
            ("", 401),
            ("authorization: Bearer sk-wrong\r\n", 401),
            ("authorization: Bearer sk-other\r\n", 403),
            ("authorization: Bearer sk-right\r\n", 101),
            ("sec-websocket-protocol: realtime, openai-insecure-api-key.sk-right\r\n", 101),
        ):
            async with a_socket(gateway, "?model=m", headers) as socket:
                assert socket.answer.status == status, headers
                if "protocol" in headers:
                    assert socket.answer.headers["sec-websocket-protocol"] == "realtime"

    rows = [("right", b"sk-right", ["*"]), ("other", b"sk-other", ["other"])]
    entries = [{"name": name, "sha256": keys.digest(key).hex(), "models": who} for name, key, who in rows]
    (tmp_path / "keys").write_text(yaml.safe_dump(entries))
    with a_gateway(tmp_path, f"--keys-file={tmp_path / 'keys'}") as gateway:
        gateway.put(a_route_to(*fleet))
        asyncio.run(story())
        assert "sk-right" not in gateway.log()


def test_a_gateway_that_stops_ends_its_sessions(tmp_path: Path, fleet: list[SimulatedReplica]) -> None:
    async def story() -> None:
        async with a_socket(gateway, "?model=m") as socket:
            assert (await socket.event())["type"] == "session.created"
            gateway.process.terminate()
            assert (await socket.event())["code"] == "gateway_stopping"
            assert await socket.closed() == websocket.GOING_AWAY
        assert await asyncio.to_thread(gateway.process.wait, DEADLINE_SECONDS) == 0

    with a_gateway(tmp_path, "--drain-seconds=0.3") as gateway:
        gateway.put(a_route_to(*fleet))
        asyncio.run(story())
