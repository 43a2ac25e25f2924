"""Two gateways and one replica that is full: who waits at the second has a share of the places soon, not at the end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fake_engine import MASTER_KEY
from gateway_process import Gateway, a_gateway, a_route, ask, chat, soon
from shoal_api import proof
from shoal_api.routes import Endpoint
from shoal_operator import merging
from shoal_operator.load_source import Loads
from simulated import UID, ReplicaProcess, replica_process

PLACES = 4
LOUD = 100
SECONDS_OF_EACH = 0.4


@dataclass
class Pair:
    """Two gateways before the same replica."""

    first: Gateway
    second: Gateway
    replica: ReplicaProcess


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    key = tmp_path / "model-key"
    key.write_text(proof.model_key(MASTER_KEY, "uid-m").hex())
    with contextlib.ExitStack() as stack:
        gateways = []
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            gateways.append(stack.enter_context(a_gateway(tmp_path / name)))
        gap = f"--simulate-gap-seconds={SECONDS_OF_EACH / 8}"
        replica = stack.enter_context(replica_process(tmp_path, gap, model_key_file=key))
        replica.wait_for_stage("Ready")
        there = Endpoint(replica="m-0", uid=UID, host="127.0.0.1", port=replica.config.port)
        route = a_route(queue={"maxInFlightPerReplica": PLACES}).model_copy(update={"endpoints": [there]})
        for gateway in gateways:
            gateway.put(route)
        yield Pair(*gateways, replica)
        for gateway in gateways:
            assert "Traceback" not in gateway.log()


@contextlib.asynccontextmanager
async def an_operator(pair: Pair) -> AsyncIterator[None]:
    """Its ear for the load, which tells each gateway of the other."""
    there = [
        merging.Gateway(name, "127.0.0.1", gateway.internal, is_ready=True)
        for name, gateway in (("a", pair.first), ("b", pair.second))
    ]
    loads = Loads(lambda: there, proof.load_token(MASTER_KEY), lambda: datetime.now(UTC), lambda _changed: None)
    running = asyncio.create_task(loads.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def requests(gateway: Gateway, user: str, count: int) -> list["asyncio.Task[Any]"]:
    return [asyncio.create_task(ask(gateway, chat(user=user, max_tokens=8))) for _ in range(count)]


def counts(gateway: Gateway) -> tuple[int, int]:
    """Waiting and in flight."""
    found = gateway.load()["models"].get("default/m", {"waiting": 0, "inFlight": 0})
    return found["waiting"], found["inFlight"]


def test_a_hundred_of_one_caller_do_not_make_five_of_another_wait_at_another_gateway(pair: Pair) -> None:
    async def story() -> None:
        async with an_operator(pair):
            loud = requests(pair.first, "loud", LOUD)
            await soon(lambda: counts(pair.first) == (LOUD - PLACES, PLACES))
            quiet = await asyncio.gather(*requests(pair.second, "quiet", 5))
            still = sum(not task.done() for task in loud)
            assert still > LOUD / 3, "long before the other gateway's line is empty"
            answers = [*quiet, *await asyncio.gather(*loud)]
            assert [answer.status for answer in answers] == [200] * (LOUD + 5)

    asyncio.run(story())


def test_the_places_of_a_gateway_that_dies_are_taken_by_the_other(pair: Pair) -> None:
    async def story() -> None:
        async with an_operator(pair):
            first = requests(pair.first, "loud", LOUD)
            second = requests(pair.second, "quiet", LOUD)
            await soon(lambda: counts(pair.first)[1] == counts(pair.second)[1] == PLACES / 2)
            pair.second.process.kill()
            await soon(lambda: counts(pair.first)[1] == PLACES and counts(pair.first)[0] > 0)
            for task in (*first, *second):
                task.cancel()
            await asyncio.gather(*first, *second, return_exceptions=True)

    asyncio.run(story())


def test_without_an_operator_every_gateway_sends_what_the_replica_takes(pair: Pair) -> None:
    async def story() -> None:
        async with an_operator(pair):
            first = requests(pair.first, "loud", LOUD)
            second = requests(pair.second, "quiet", LOUD)
            await soon(lambda: counts(pair.first)[1] == counts(pair.second)[1] == PLACES / 2)
            for task in second:
                task.cancel()
            await asyncio.gather(*second, return_exceptions=True)
        await soon(lambda: counts(pair.first)[1] == PLACES and counts(pair.first)[0] > 0)
        for task in first:
            task.cancel()
        await asyncio.gather(*first, return_exceptions=True)

    asyncio.run(story())
