"""An operator is ready when it can act or take over, and not live when only a new start can help it."""

import pytest

from shoal_operator import fitness
from shoal_operator.fitness import Signs

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
