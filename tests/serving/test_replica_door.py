"""The replica's door: hello, MAC, busy, counting, drain and health, around a plain ASGI app."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest

from replica_builders import KEY
from shoal_api import proof
from shoal_serving.replica.admission import Admission
from shoal_serving.replica.door import Door, Message, Receive, Scope, Send

UID = "uid-0"
NONCE = "0123456789abcdef" * 2
MAC = proof.request_mac(KEY, NONCE, UID)


@dataclass
class Answer:
    messages: list[Message]

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}

    @property
    def body(self) -> Any:
        return json.loads(b"".join(message.get("body", b"") for message in self.messages[1:]))


@dataclass
class House:
    """A door, the app behind it, and the clock on the wall."""

    healthy: bool = True
    now: float = 100.0
    entered: list[str] = field(default_factory=list)
    gate: asyncio.Event | None = None
    fails: bool = False

    def __post_init__(self) -> None:
        self.admission = Admission(KEY, UID, settle_seconds=2.0)
        self.door = Door(self._app, self.admission, self, lambda: self.now)

    def is_ready(self) -> bool:
        return self.healthy

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.entered.append(scope.get("path", scope["type"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if self.gate is not None:
            await self.gate.wait()
        if self.fails:
            raise ConnectionResetError
        await send({"type": "http.response.body", "body": b"{}"})

    async def ask(self, path: str, *, mac: str = MAC, method: str = "POST", kind: str = "http", **extra: Any) -> Answer:
        sent: list[Message] = []
        names = {name.replace("_", "-"): value for name, value in extra.items() if name != "extensions"}
        given = {proof.MAC_HEADER: mac, **names} if mac else names
        headers = [(name.encode(), str(value).encode()) for name, value in given.items()]

        async def receive() -> Message:
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        scope: Scope = {"type": kind, "method": method, "path": path, "headers": headers}
        scope["extensions"] = extra.get("extensions", {})
        await self.door(scope, receive, send)
        return Answer(sent)


def told(story: Callable[[House], Coroutine[Any, Any, None]], **given: Any) -> None:
    async def tell() -> None:
        await story(House(**given))

    asyncio.run(tell())


def test_a_hello_is_answered_with_the_proof_for_its_nonce_and_needs_no_mac() -> None:
    async def story(house: House) -> None:
        answer = await house.ask(proof.HELLO_PATH, mac="", method="GET", x_shoal_nonce=NONCE)
        assert answer.status == 200
        assert answer.headers[proof.PROOF_HEADER] == proof.hello_proof(KEY, NONCE, UID)
        assert house.entered == []

    told(story)


@pytest.mark.parametrize("first", ["hello", "request", "state"])
def test_a_replica_goes_on_with_another_key_and_knows_the_old_one_no_more(first: str) -> None:
    other = bytes(reversed(KEY))
    mac = proof.request_mac(other, NONCE, UID)
    new: list[bytes] = []

    async def story(house: House) -> None:
        house.admission.new_key = lambda: new.pop() if new else None
        assert (await house.ask("/v1/models", mac=mac)).status == 421
        assert (await house.ask("/v1/models")).status == 200
        new.append(other)
        if first == "hello":
            answer = await house.ask(proof.HELLO_PATH, mac="", method="GET", x_shoal_nonce=NONCE)
            assert answer.headers[proof.PROOF_HEADER] == proof.hello_proof(other, NONCE, UID)
        path = proof.STATE_PATH if first == "state" else "/v1/models"
        assert (await house.ask(path, mac=mac)).status == 200
        assert (await house.ask("/v1/models")).status == 421

    told(story)


@pytest.mark.parametrize("nonce", ["", "short", "z" * 32, "0" * 33])
def test_a_hello_without_a_nonce_is_no_oracle(nonce: str) -> None:
    async def story(house: House) -> None:
        answer = await house.ask(proof.HELLO_PATH, mac="", method="GET", x_shoal_nonce=nonce)
        assert answer.status == 400
        assert proof.PROOF_HEADER not in answer.headers

    told(story)


@pytest.mark.parametrize(
    "mac",
    ["", "nonsense", proof.request_mac(KEY, NONCE, "uid-of-another"), proof.request_mac(b"x" * 32, NONCE, UID)],
)
@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/metrics", "/v1/models", "/docs", proof.STATE_PATH, proof.DRAIN_PATH]
)
def test_without_a_right_mac_nothing_but_421_is_to_be_had(path: str, mac: str) -> None:
    async def story(house: House) -> None:
        answer = await house.ask(path, mac=mac)
        assert answer.status == 421
        assert set(answer.body["error"]) == {"message", "type", "param", "code"}
        assert house.entered == []
        assert house.admission.draining_since is None

    told(story)


def test_with_a_right_mac_the_engines_app_answers() -> None:
    async def story(house: House) -> None:
        assert (await house.ask("/v1/models", method="GET")).status == 200
        assert house.entered == ["/v1/models"]

    told(story)


@pytest.mark.parametrize(
    ("healthy", "draining", "status"), [(True, False, 200), (False, False, 503), (True, True, 503), (False, True, 503)]
)
def test_health_needs_no_mac_and_tells_the_truth(healthy: bool, draining: bool, status: int) -> None:
    async def story(house: House) -> None:
        if draining:
            await house.ask(proof.DRAIN_PATH)
        assert (await house.ask("/health", mac="", method="GET")).status == status
        assert house.entered == []

    told(story, healthy=healthy)


def test_a_request_is_in_flight_until_its_whole_response_is_out() -> None:
    async def story(house: House) -> None:
        house.gate = asyncio.Event()
        running = [asyncio.create_task(house.ask("/v1/completions")) for _ in range(3)]
        await asyncio.sleep(0)
        assert (await house.ask(proof.STATE_PATH)).body == {"inFlight": 3, "draining": False, "ready": True}
        house.gate.set()
        await asyncio.gather(*running)
        assert house.admission.in_flight == 0

    told(story)


@pytest.mark.parametrize("how", ["fails", "cancelled"])
def test_however_a_request_ends_it_is_in_flight_no_more(how: str) -> None:
    async def story(house: House) -> None:
        house.gate = asyncio.Event()
        house.fails = how == "fails"
        running = asyncio.create_task(house.ask("/v1/completions"))
        await asyncio.sleep(0)
        assert house.admission.in_flight == 1
        if how == "fails":
            house.gate.set()
        else:
            running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert house.admission.in_flight == 0

    told(story)


def test_one_more_than_the_limit_is_refused_as_busy_and_one_less_is_let_in() -> None:
    async def story(house: House) -> None:
        house.gate = asyncio.Event()
        running = asyncio.create_task(house.ask("/v1/completions", x_shoal_limit=2))
        await asyncio.sleep(0)
        refused = await house.ask("/v1/completions", x_shoal_limit=1)
        assert (refused.status, refused.headers[proof.BUSY_HEADER]) == (503, "limit")
        house.gate.set()
        assert (await house.ask("/v1/completions", x_shoal_limit=2)).status == 200
        await running

    told(story)


def test_looking_at_metrics_is_no_load() -> None:
    async def story(house: House) -> None:
        house.gate = asyncio.Event()
        looking = asyncio.create_task(house.ask("/metrics", method="GET", x_shoal_limit=0))
        await asyncio.sleep(0)
        assert house.entered == ["/metrics"]
        assert house.admission.in_flight == 0
        house.gate.set()
        await looking

    told(story)


def test_a_drain_lets_in_what_still_arrives_until_it_has_settled_and_finishes_what_runs() -> None:
    async def story(house: House) -> None:
        house.gate = asyncio.Event()
        running = asyncio.create_task(house.ask("/v1/completions"))
        await asyncio.sleep(0)
        assert (await house.ask(proof.DRAIN_PATH)).body == {"inFlight": 1, "draining": True, "ready": False}
        house.now += 1.9
        late = asyncio.create_task(house.ask("/v1/completions"))
        await asyncio.sleep(0)
        assert house.admission.in_flight == 2
        house.now += 0.1
        refused = await house.ask("/v1/completions")
        assert (refused.status, refused.headers[proof.BUSY_HEADER]) == (503, "draining")
        assert refused.headers["connection"] == "close"
        assert not house.admission.is_drained(house.now)
        house.gate.set()
        assert [(await task).status for task in (running, late)] == [200, 200]
        assert house.admission.is_drained(house.now)

    told(story)


def test_a_second_drain_does_not_begin_anew() -> None:
    async def story(house: House) -> None:
        await house.ask(proof.DRAIN_PATH)
        house.now += 1.5
        await house.ask(proof.DRAIN_PATH)
        assert house.admission.draining_since == 100.0

    told(story)


def test_only_a_post_drains() -> None:
    async def story(house: House) -> None:
        await house.ask(proof.DRAIN_PATH, method="GET")
        assert house.admission.draining_since is None

    told(story)


def test_a_websocket_needs_a_mac_too_and_is_counted() -> None:
    async def story(house: House) -> None:
        closed = await house.ask("/v1/realtime", mac="", kind="websocket")
        assert closed.messages[0]["type"] == "websocket.close"
        answered = await house.ask("/v1/realtime", mac="", kind="websocket", extensions={"websocket.http.response": {}})
        assert (answered.messages[0]["type"], answered.status) == ("websocket.http.response.start", 421)
        house.gate = asyncio.Event()
        running = asyncio.create_task(house.ask("/v1/realtime", kind="websocket"))
        await asyncio.sleep(0)
        assert house.admission.in_flight == 1
        house.gate.set()
        await running
        assert house.admission.in_flight == 0

    told(story)


def test_the_lifespan_goes_through_to_the_app() -> None:
    async def story(house: House) -> None:
        async def silent(*_: Any) -> Any:
            return None

        await house.door({"type": "lifespan"}, silent, silent)
        assert house.entered == ["lifespan"]

    told(story)


def test_when_serve_cancels_a_request_whose_client_left_the_engine_hears_of_it() -> None:
    """As vLLM does it: one task works, another listens, and whoever waits for both may be cancelled without a trace."""
    heard: list[str] = []

    async def story() -> None:
        left, works = asyncio.Event(), asyncio.Event()

        async def work() -> None:
            works.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                heard.append("abort")
                raise

        async def receive() -> Message:
            await left.wait()
            return {"type": "http.disconnect"}

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            tasks = [asyncio.ensure_future(work()), asyncio.ensure_future(receive())]
            _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

        async def send(_message: Message) -> None:
            raise AssertionError("nobody is there")

        admission = Admission(KEY, UID, settle_seconds=2.0)
        door = Door(app, admission, House(), lambda: 0.0)
        headers = [(proof.MAC_HEADER.encode(), MAC.encode())]
        scope: Scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": headers}
        request = asyncio.ensure_future(door(scope, receive, send))
        await works.wait()
        assert admission.in_flight == 1
        left.set()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert admission.in_flight == 0
        assert heard == ["abort"]

    asyncio.run(story())
