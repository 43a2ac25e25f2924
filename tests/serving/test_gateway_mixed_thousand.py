"""A thousand requests that end in every way there is: each is counted once, as what it was, and nothing is left."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from facts import soon
from fleet import SimulatedReplica, a_fleet, a_route_to
from gateway_process import Client, Gateway, a_gateway, a_route, ask, chat
from shoal_serving.gateway.errors import Outcome

AT_ONCE = 50
KNOBS: dict[str, Any] = {"header-faults": "true", "gap-seconds": 0.001}
Request = Callable[[Gateway], Awaitable[None]]
Kinds = dict[str, tuple[str, Request]]
"""How it ends, by what is asked."""


def faulty(stream: bool, fault: str, model: str = "m") -> Request:
    """The fault travels with the request to every replica that tries it."""

    async def one(gateway: Gateway) -> None:
        body = chat(stream, model, max_tokens=6, ignore_eos=True)
        assert (await ask(gateway, body, headers=f"x-simulate: {fault}\r\n")).status > 0

    return one


def asked(body: dict[str, object]) -> Request:
    async def one(gateway: Gateway) -> None:
        assert (await ask(gateway, body)).status > 0

    return one


async def leaves_before_the_first_byte(gateway: Gateway) -> None:
    async with Client.connect(gateway) as client:
        client.send(chat(), headers="x-simulate: hang\r\n")
        await client.writer.drain()
        await asyncio.sleep(0.1)


async def leaves_in_the_stream(gateway: Gateway) -> None:
    async with Client.connect(gateway) as client:
        client.send(chat(stream=True), headers="x-simulate: silent after=3\r\n")
        await client.head()
        await client.reader.readuntil(b"\n\n")


KINDS: Kinds = {
    "an answer": ("ok", asked(chat(max_tokens=6))),
    "a stream": ("ok", asked(chat(stream=True, max_tokens=6))),
    "refused by the engine": ("client_error", asked(chat(temperature=9))),
    "an unknown name": ("client_error", asked(chat(model="nobody"))),
    "500 everywhere": ("engine_error", faulty(False, "status code=500")),
    "503 everywhere": ("overloaded", faulty(True, "status code=503")),
    "cut": ("upstream_lost", faulty(True, "cut after=3")),
    "no first byte": ("timeout", faulty(True, "hang", "hasty")),
    "left early": ("cancelled", leaves_before_the_first_byte),
    "left in the stream": ("cancelled", leaves_in_the_stream),
}
ELSEWHERE: Kinds = {
    "a full room": ("queue_full", asked(chat(model="full"))),
    "none is ready": ("overloaded", asked(chat(model="empty"))),
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[SimulatedReplica]]:
    with a_fleet(tmp_path_factory.mktemp("fleet"), "a", "b", **KNOBS) as running:
        yield running


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[SimulatedReplica]]:
    """Its model waits half a second for a first byte, which a busy machine may need for an ordinary answer."""
    with a_fleet(tmp_path_factory.mktemp("fleet"), "c", model_uid="uid-4", **KNOBS) as running:
        yield running


@pytest.mark.parametrize(
    ("kinds", "each"), [(KINDS, 100), (ELSEWHERE, 20)], ids=["a thousand", "where no replica answers"]
)
def test_every_request_is_counted_once_as_what_it_was_and_every_gauge_returns_to_zero(
    tmp_path: Path, fleet: list[SimulatedReplica], hasty: list[SimulatedReplica], kinds: Kinds, each: int
) -> None:
    with a_gateway(tmp_path) as gateway:
        gateway.put(
            a_route_to(*fleet, queue={"maxInFlightPerReplica": 10}),
            a_route_to(*hasty, name="hasty", model_uid="uid-4", served_name="m", timeouts={"firstByteSeconds": 0.5}),
            a_route(name="full", model_uid="uid-2", queue={"maxWaiting": 0}),
            a_route(name="empty", model_uid="uid-3", queue={"maxWaitSeconds": 0.2}),
        )
        asyncio.run(_all(gateway, [one for _, one in kinds.values()] * each))
        asyncio.run(_nothing_is_left(gateway, [*fleet, *hasty]))

        expected = Counter([outcome for outcome, _ in kinds.values()] * each)
        assert {outcome: gateway.metric("shoal_requests_total", outcome=outcome) for outcome in Outcome} == {
            outcome: expected[outcome] for outcome in Outcome
        }
        assert gateway.metric("shoal_request_duration_seconds_count") == len(kinds) * each
        assert "Traceback" not in gateway.log()


async def _all(gateway: Gateway, requests: list[Request]) -> None:
    places = asyncio.Semaphore(AT_ONCE)

    async def in_turn(one: Request) -> None:
        async with places:
            await one(gateway)

    await asyncio.gather(*map(in_turn, requests))


async def _nothing_is_left(gateway: Gateway, fleet: list[SimulatedReplica]) -> None:
    gauges = [
        "shoal_requests_in_flight",
        "shoal_requests_waiting",
        "shoal_held_bytes",
        "shoal_open_connections",
        "shoal_upstream_idle_connections",
    ]
    for gauge in gauges:
        await soon(lambda gauge=gauge: gateway.metric(gauge) == 0)
    await soon(lambda: gateway.load()["models"] == {})
    for replica in fleet:
        await soon(lambda one=replica: not any(one.state()[count] for count in ("inFlight", "running", "waiting")))
