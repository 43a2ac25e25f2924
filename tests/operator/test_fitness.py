"""An operator is ready when it can act or take over, and not live when only a new start can help it."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from shoal_operator import fitness
from shoal_operator.fitness import Signs
from shoal_operator.kinds import Kind
from shoal_operator.leading import Leading
from shoal_operator.operator_program import Vitals

NOW = 1000.0


@pytest.mark.parametrize(
    ("signs", "ready", "because"),
    [
        (Signs(started=999), False, "no word about the Lease yet"),
        (Signs(started=0, asked=999, heard=999), True, "stands by"),
        (Signs(started=0, asked=999, heard=999, leads=True), False, "has not read yet what there is"),
        (Signs(started=0, asked=999, heard=999, leads=True, has_listed=True), True, "leads"),
        (Signs(started=0, asked=999, heard=985, leads=True, has_listed=True), True, "leads"),
        (
            Signs(started=0, asked=999, heard=984, leads=True, has_listed=True),
            False,
            "no word about the Lease for 16 s",
        ),
        (Signs(started=0, asked=999, heard=900), False, "for 100 s"),
    ],
)
def test_ready_is_who_can_act_or_take_over(signs: Signs, ready: bool, because: str) -> None:
    verdict = fitness.is_ready(signs, NOW)

    assert (verdict.holds, because in verdict.because) == (ready, True), verdict


@pytest.mark.parametrize(
    ("signs", "live", "because"),
    [
        (Signs(started=999), True, "works"),
        (Signs(started=879), False, "not asked for the Lease for 121 s"),
        (Signs(started=0, asked=999), True, "works"),
        (Signs(started=0, asked=880), True, "works"),
        (Signs(started=0, asked=879), False, "not asked for the Lease for 121 s"),
        (Signs(started=0, asked=999, heard=None, leads=True), True, "works"),
        (Signs(started=0, asked=999, heard=10), True, "works"),
        (Signs(started=0, asked=999, oldest_look=400), True, "works"),
        (Signs(started=0, asked=999, oldest_look=399), False, "a look at one model has taken 601 s"),
    ],
)
def test_live_is_who_is_not_stuck_whatever_the_api_server_does(signs: Signs, live: bool, because: str) -> None:
    verdict = fitness.is_live(signs, NOW)

    assert (verdict.holds, because in verdict.because) == (live, True), verdict


class Answers:
    """An API server with a Lease that nobody holds."""

    async def get(self, kind: Kind, namespace: str | None, name: str) -> dict[str, Any] | None:
        return None

    async def hold(self, kind: Kind, manifest: dict[str, Any]) -> dict[str, Any]:
        return {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": "1"}}


def test_an_operator_that_just_won_the_lease_is_not_ready_before_it_has_read_what_there_is() -> None:
    clock = lambda: datetime(2026, 11, 21, tzinfo=UTC)  # noqa: E731
    leading = Leading("system", "shoal-operator", "me", ticks=lambda: NOW, clock=clock)
    vitals = Vitals(leading, NOW - 1)
    assert vitals.signs() == Signs(started=NOW - 1)

    asyncio.run(leading.step(Answers()))

    assert vitals.signs() == Signs(started=NOW - 1, asked=NOW, heard=NOW, leads=True)
    assert not fitness.is_ready(vitals.signs(), NOW).holds
    assert fitness.is_live(vitals.signs(), NOW).holds
