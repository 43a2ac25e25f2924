"""Schedules of arrivals."""

from itertools import pairwise
from random import Random

import pytest

import arrivals


def test_fixed_arrivals_are_evenly_spaced_from_zero() -> None:
    assert arrivals.fixed(4, 1) == [0, 0.25, 0.5, 0.75]


def test_poisson_arrivals_have_their_rate_on_average_and_end_in_time() -> None:
    times = arrivals.poisson(1000, 20, Random(1))

    assert len(times) == pytest.approx(20_000, rel=0.02)
    assert times == sorted(times)
    assert times[-1] < 20


def test_poisson_gaps_spread_as_widely_as_they_are_long() -> None:
    times = arrivals.poisson(1000, 20, Random(1))
    gaps = [after - before for before, after in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5

    assert deviation == pytest.approx(mean, rel=0.03)


def test_the_same_seed_gives_the_same_schedule() -> None:
    assert arrivals.schedule("poisson", 50, 2, 7) == arrivals.schedule("poisson", 50, 2, 7)
    assert arrivals.schedule("poisson", 50, 2, 7) != arrivals.schedule("poisson", 50, 2, 8)


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_the_parts_of_all_processes_are_the_schedule(processes: int) -> None:
    whole = arrivals.schedule("poisson", 50, 2, 1)
    parts = [arrivals.part(whole, process, processes) for process in range(processes)]

    assert sorted(time for part in parts for time in part) == whole
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(("rate", "seconds"), [(0, 1), (1, 0), (-1, 1)])
def test_a_schedule_that_cannot_be_is_refused(rate: float, seconds: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        arrivals.schedule("fixed", rate, seconds, 1)


def test_as_many_streams_stay_open_as_were_asked_for() -> None:
    assert arrivals.rate_of(128, 0.36) * 0.36 == pytest.approx(128)
