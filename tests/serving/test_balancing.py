"""The least loaded endpoint that may be asked; ties by lot; nobody else."""

from collections import Counter
from dataclasses import dataclass, field
from random import Random

import pytest

from shoal_serving.gateway.balancing import pick
from shoal_serving.gateway.endpoint_health import Health


@dataclass
class Candidate:
    uid: str
    in_flight: int = 0
    elsewhere: int = 0
    health: Health = field(default_factory=Health)


def picked(loads: list[int], tried: set[str] = frozenset(), limit: int = 10, now: float = 0.0, **health: Health) -> str:  # type: ignore[assignment]
    candidates = [Candidate(str(n), load, health=health.get(f"h{n}", Health())) for n, load in enumerate(loads)]
    found = pick(candidates, tried, limit, now, Random(1).random)
    return found.uid if found else "none"


@pytest.mark.parametrize(
    ("loads", "tried", "chosen"),
    [
        ([3, 1, 2], set(), "1"),
        ([3, 1, 2], {"1"}, "2"),
        ([], set(), "none"),
        ([10, 10], set(), "none"),
        ([9, 10], set(), "0"),
    ],
)
def test_least_load_with_room_and_untried(loads: list[int], tried: set[str], chosen: str) -> None:
    assert picked(loads, tried) == chosen


def test_one_that_is_out_busy_or_on_trial_is_left_alone() -> None:
    skipped = Health(skip_until=5.0)
    assert picked([0, 3], h0=skipped, now=4.9) == "1"
    assert picked([0, 3], h0=skipped, now=5.0) == "0"
    assert picked([0, 3], h0=Health(out_seconds=1, on_trial=True)) == "1"


def test_ties_fall_evenly() -> None:
    chance = Random(3)
    candidates = [Candidate(str(n), 2) for n in range(4)] + [Candidate("more", 3)]
    found = Counter(pick(candidates, (), 10, 0.0, chance.random).uid for _ in range(4000))  # type: ignore[union-attr]
    assert set(found) == {"0", "1", "2", "3"}
    assert min(found.values()) > 850


def test_the_load_is_even_to_one_request() -> None:
    chance = Random(5)
    candidates = [Candidate(str(n)) for n in range(5)]
    for _ in range(203):
        found = pick(candidates, (), 1000, 0.0, chance.random)
        assert found is not None
        found.in_flight += 1
    assert {candidate.in_flight for candidate in candidates} == {40, 41}


@pytest.mark.parametrize(
    ("own", "elsewhere", "chosen"),
    [
        ([0, 0], [5, 0], "1"),
        ([2, 0], [0, 3], "0"),
        ([9, 3], [0, 99], "0"),
        ([10, 9], [0, 99], "1"),
        ([9, 9], [99, 98], "1"),
    ],
)
def test_what_other_gateways_have_there_weighs_and_takes_no_room(
    own: list[int], elsewhere: list[int], chosen: str
) -> None:
    there = [Candidate(str(n), mine, others) for n, (mine, others) in enumerate(zip(own, elsewhere, strict=True))]

    found = pick(there, set(), 10, 0.0, Random(1).random)

    assert found is not None
    assert found.uid == chosen
