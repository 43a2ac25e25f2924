"""The pause before a dead replica is started again."""

from datetime import UTC, datetime, timedelta

import pytest

from shoal_operator import restarts

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def test_pauses_double_from_one_second_to_five_minutes() -> None:
    bad_runs, now, pauses = 0, T0, []
    for _ in range(12):
        restart = restarts.after(bad_runs, now, now + timedelta(seconds=5))
        pauses.append((restart.at - now).total_seconds() - 5)
        bad_runs, now = restart.bad_runs, restart.at

    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


@pytest.mark.parametrize(("ran_seconds", "pause"), [(599, 64), (600, 1), (86_400, 1)])
def test_a_long_good_run_begins_anew(ran_seconds: float, pause: float) -> None:
    ended = T0 + timedelta(seconds=ran_seconds)

    assert (restarts.after(6, T0, ended).at - ended).total_seconds() == pause


def test_the_count_never_overflows() -> None:
    assert restarts.after(10_000, T0, T0).at == T0 + timedelta(seconds=300)
