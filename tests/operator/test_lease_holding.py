"""Who leads, over time: one holder, a taker-over when the holder is still, and never two that write."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from shoal_operator.api_faults import ApiFault, Unreachable
from shoal_operator.kinds import Kind
from shoal_operator.leading import Leading

T0 = datetime(2026, 11, 21, 12, tzinfo=UTC)


@dataclass
class LeaseServer:
    """The one Lease of an API server."""

    lease: dict[str, Any] | None = None
    version: int = 0
    is_away: bool = False

    async def get(self, kind: Kind, namespace: str | None, name: str) -> dict[str, Any] | None:
        if self.is_away:
            raise Unreachable("nobody answers")
        return self.lease

    async def hold(self, kind: Kind, manifest: dict[str, Any]) -> dict[str, Any]:
        if self.is_away:
            raise Unreachable("nobody answers")
        if manifest["metadata"].get("resourceVersion") != (self.lease and str(self.version)):
            raise ApiFault(409, "the Lease is another by now")
        self.version += 1
        self.lease = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(self.version)}}
        return self.lease


@dataclass
class Times:
    seconds: float = 0.0
    operators: list[Leading] = field(default_factory=list)

    def operator(self, name: str) -> Leading:
        clock = lambda: T0 + timedelta(seconds=self.seconds)  # noqa: E731
        made = Leading("system", "shoal-operator", name, ticks=lambda: self.seconds, clock=clock)
        self.operators.append(made)
        return made

    def leaders(self) -> int:
        return sum(operator.leads() for operator in self.operators)


def test_the_second_takes_over_within_20_s_of_the_firsts_death_and_never_do_two_lead() -> None:
    async def story() -> float:
        server, times = LeaseServer(), Times()
        first, second = times.operator("first"), times.operator("second")
        for _ in range(10):
            await first.step(server)
            await second.step(server)
            assert (first.leads(), second.leads()) == (True, False)
            times.seconds += 2
        died = times.seconds
        while not second.leads():
            await second.step(server)
            assert times.leaders() <= 1
            times.seconds += 2
        return times.seconds - died

    assert asyncio.run(story()) <= 20


def test_it_is_known_when_the_api_server_was_asked_and_when_it_last_answered() -> None:
    async def story() -> None:
        server, times = LeaseServer(), Times()
        first, second = times.operator("first"), times.operator("second")
        assert (first.asked, first.heard) == (None, None)
        times.seconds = 5
        for operator in (first, second):
            await operator.step(server)
            assert (operator.asked, operator.heard) == (5, 5)
        server.is_away = True
        times.seconds = 9
        for operator in (first, second):
            await operator.step(server)
            assert (operator.asked, operator.heard) == (9, 5)

    asyncio.run(story())


def test_one_that_was_stopped_leads_no_more_when_it_goes_on() -> None:
    async def story() -> None:
        server, times = LeaseServer(), Times()
        first, second = times.operator("first"), times.operator("second")
        await first.step(server)
        await second.step(server)
        times.seconds += 16
        assert not first.leads()
        assert await second.step(server)
        assert not await first.step(server)
        assert times.leaders() == 1

    asyncio.run(story())


def test_without_an_api_server_the_leader_stops_before_the_lease_is_free() -> None:
    async def story() -> None:
        server, times = LeaseServer(), Times()
        first, second = times.operator("first"), times.operator("second")
        await first.step(server)
        await second.step(server)
        server.is_away = True
        led = 0.0
        for _ in range(12):
            times.seconds += 1
            await first.step(server)
            led = times.seconds if first.leads() else led
        assert led == 7
        server.is_away = False
        assert await first.step(server), "nobody took it, so it goes on"

    asyncio.run(story())


def test_an_answer_that_was_long_under_way_shows_a_holder_that_may_have_renewed_just_now() -> None:
    async def story() -> None:
        server, times = LeaseServer(), Times()
        first, second = times.operator("first"), times.operator("second")
        await first.step(server)

        class Slow(LeaseServer):
            async def get(self, kind: Kind, namespace: str | None, name: str) -> dict[str, Any] | None:
                for _ in range(10):
                    times.seconds += 2
                    await first.step(server)
                self.lease, self.version = server.lease, server.version
                return server.lease

        assert not await second.step(Slow())
        assert (first.leads(), second.leads()) == (True, False)

    asyncio.run(story())


def test_two_that_reach_for_a_free_lease_at_once_are_told_apart_by_the_api_server() -> None:
    async def story() -> None:
        server, times = LeaseServer(), Times()
        first, second = times.operator("first"), times.operator("second")
        seen = await server.get(None, "system", "shoal-operator")  # type: ignore[arg-type]
        assert seen is None
        assert await first.step(server)

        class Late(LeaseServer):
            async def get(self, kind: Kind, namespace: str | None, name: str) -> None:
                return None

        late = Late(server.lease, server.version)
        assert not await second.step(late)
        assert times.leaders() == 1

    asyncio.run(story())


def test_a_lease_given_back_is_taken_at_once() -> None:
    async def story() -> None:
        server, times = LeaseServer(), Times()
        first, second = times.operator("first"), times.operator("second")
        await first.step(server)
        await second.step(server)
        await first.give_back(server)
        assert not first.leads()
        assert await second.step(server)

    asyncio.run(story())
