"""The simulator keeps the replica's side of the treaty, in the words of the real replica's door."""

import time
from typing import Any

import pytest

from shoal_api import proof
from shoal_serving.replica.door import Door
from shoal_serving.simulator.knobs import Knobs
from simulated import CHAT, KEY, NONCE, UID, Heard, a_chat, a_mac, an_admission, run_async, simulated

OTHER_MAC = {proof.MAC_HEADER: proof.request_mac(KEY, NONCE, "another-uid")}
CONTROL = [
    ("GET", proof.STATE_PATH),
    ("POST", proof.DRAIN_PATH),
    ("GET", "/metrics"),
    ("GET", "/simulator/log"),
    ("POST", "/simulator/faults"),
]


class _Ready:
    def is_ready(self) -> bool:
        return True


async def real_door(drained: bool, method: str, path: str, headers: dict[str, str]) -> Heard:
    """What the real replica's door answers."""
    admission = an_admission()
    if drained:
        admission.begin_drain(0.0)

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    await Door(app, admission, _Ready(), time.monotonic)(scope, receive, send)
    start = sent[0]
    fields = {name.decode(): value.decode() for name, value in start["headers"]}
    return Heard(start["status"], fields, sent[1]["body"] if len(sent) > 1 else b"")


@pytest.mark.parametrize(
    ("drained", "method", "path", "headers"),
    [
        (False, "POST", CHAT, {}),
        (False, "POST", CHAT, OTHER_MAC),
        (False, "POST", CHAT, {**a_mac(), proof.LIMIT_HEADER: "0"}),
        (True, "POST", CHAT, a_mac()),
        (False, "GET", proof.HELLO_PATH, {proof.NONCE_HEADER: "a" * 32}),
        (False, "GET", proof.HELLO_PATH, {}),
        (False, "GET", proof.HELLO_PATH, {proof.NONCE_HEADER: "z" * 32}),
        (False, "GET", proof.STATE_PATH, a_mac()),
        (True, "GET", proof.STATE_PATH, a_mac()),
        (False, "GET", proof.STATE_PATH, {}),
        (False, "GET", "/health", {}),
        (True, "GET", "/health", {}),
        (False, "GET", "/metrics", {}),
        (False, "GET", "/v1/models", {}),
    ],
)
def test_it_answers_like_the_real_replicas_door(drained: bool, method: str, path: str, headers: dict[str, str]) -> None:
    async def main() -> None:
        admission = an_admission()
        async with simulated(admission=admission) as engine:
            if drained:
                engine.service.gatekeeper.begin_drain()
            ours = await engine.ask(method, path, a_chat() if method == "POST" else None, headers)
        real = await real_door(drained, method, path, headers)
        assert (ours.status, ours.json()) == (real.status, real.json())
        for name in (proof.BUSY_HEADER, proof.PROOF_HEADER, "connection", "content-type"):
            assert ours.headers.get(name) == real.headers.get(name), name

    run_async(main())


@pytest.mark.parametrize(("method", "path"), CONTROL)
def test_control_paths_are_closed_without_a_mac(method: str, path: str) -> None:
    async def main() -> None:
        async with simulated(admission=an_admission()) as engine:
            body = None if method == "GET" else {"kind": "hang"}
            assert (await engine.ask(method, path, body)).status == 421
            assert (await engine.ask(method, path, body, a_mac())).status == 200

    run_async(main())


def test_a_mac_that_was_right_does_not_let_a_wrong_one_in_on_the_same_connection() -> None:
    async def main() -> None:
        async with simulated(admission=an_admission()) as engine, engine.client() as client:
            answers = [await client.ask("POST", CHAT, a_chat(), mac) for mac in (a_mac(), OTHER_MAC, {}, a_mac())]
        assert [answer.status for answer in answers] == [200, 421, 421, 200]

    run_async(main())


def test_it_holds_no_more_requests_than_it_is_told() -> None:
    async def main() -> None:
        async with simulated(Knobs(gap_seconds=0.01), an_admission()) as engine:
            limited = {**a_mac(), proof.LIMIT_HEADER: "2"}
            async with engine.client(limited) as one, engine.client(limited) as two:
                for client in (one, two):
                    await client.ask("POST", CHAT, a_chat(max_tokens=1))  # the MAC is known on this connection now
                    client.send("POST", CHAT, a_chat(max_tokens=9000, ignore_eos=True))
                await engine.until_in_flight(2)
                busy = await engine.ask("POST", CHAT, a_chat(), limited)
                assert (busy.status, busy.headers[proof.BUSY_HEADER]) == (503, "limit")
                assert (await engine.ask("GET", proof.STATE_PATH, headers=a_mac())).json()["inFlight"] == 2
            await engine.until_in_flight(0)
            assert (await engine.ask("POST", CHAT, a_chat(), limited)).status == 200

    run_async(main())


def test_while_it_settles_it_still_takes_requests_but_is_not_ready() -> None:
    async def main() -> None:
        async with simulated(admission=an_admission(settle_seconds=60)) as engine:
            state = (await engine.ask("POST", proof.DRAIN_PATH, b"", a_mac())).json()
            assert state == {"inFlight": 0, "draining": True, "ready": False}
            assert (await engine.ask("GET", "/health")).status == 503
            assert (await engine.ask("POST", CHAT, a_chat(), a_mac())).status == 200

    run_async(main())


def test_the_proof_is_of_this_very_replica() -> None:
    async def main() -> None:
        async with simulated(admission=an_admission()) as engine:
            hello = await engine.ask("GET", proof.HELLO_PATH, headers={proof.NONCE_HEADER: NONCE})
        assert hello.headers[proof.PROOF_HEADER] == proof.hello_proof(KEY, NONCE, UID)

    run_async(main())
