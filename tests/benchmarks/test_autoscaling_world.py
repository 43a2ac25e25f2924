"""The simulator of time: what goes in comes out once, the machine is the one that is described, judging is fair."""

from dataclasses import replace
from statistics import mean, median

import pytest

from autoscaling import sweeping, traces
from autoscaling.policies import Shoal, View
from autoscaling.report import backward, page, savings
from autoscaling.sweeping import Figure, Judged, Setting, cheapest, unbeaten
from autoscaling.traces import Request, Trace
from autoscaling.world import WARM_UP_SECONDS, Machine, simulate

PLAIN = Machine(step_seconds=0.1, step_seconds_per_request=0.0, prompt_tokens_per_second=1e9, limit=1)
LATER = WARM_UP_SECONDS + 100


class Always:
    """So many, whatever comes."""

    def __init__(self, count: int) -> None:
        self.count = count

    def wanted(self, now: float, view: View) -> int:
        return self.count


def a_trace(*arrivals: float, answer: float = 50.0, least: int = 1, seconds: float = 1000.0) -> Trace:
    return Trace("t", seconds, tuple(Request(LATER + at, 0.0, answer) for at in arrivals), least)


def test_one_at_a_time_waits_for_the_one_before_in_order() -> None:
    result = simulate(a_trace(0, 0, 0), Always(1), 1, PLAIN)

    assert result.waits == pytest.approx((0, 5, 10))
    assert result.replica_seconds == pytest.approx(1000 - WARM_UP_SECONDS, abs=1)


def test_two_that_share_an_engine_take_longer_and_two_engines_do_not() -> None:
    shared = replace(PLAIN, limit=2, step_seconds_per_request=0.1)
    third_waits = simulate(a_trace(0, 0, 0), Always(1), 1, shared).waits[-1]

    assert third_waits == pytest.approx(50 * (0.1 + 2 * 0.1))
    assert simulate(a_trace(0, 0), Always(2), 1, PLAIN).waits == pytest.approx((0, 0))


def test_from_zero_everybody_waits_for_the_cold_start_and_nobody_is_lost() -> None:
    machine = replace(PLAIN, limit=16, cold_start_seconds=(40.0, 40.0))
    result = simulate(a_trace(*range(10), least=0), Shoal(4, least=0, delay=15), 1, machine)

    assert (len(result.waits), result.lost) == (10, 0)
    assert result.waits[-1] == pytest.approx(40.0, abs=1.1)
    assert result.wanted[-1][1] == 0


def test_who_waits_too_long_or_finds_the_room_full_is_counted_as_lost() -> None:
    machine = replace(PLAIN, longest_wait_seconds=7.0, most_waiting=3)
    result = simulate(a_trace(0, 0, 0, 0, 0), Always(1), 1, machine)

    assert result.lost == 1 + 2, "one finds the room full, two give up after seven seconds"
    assert result.waits == pytest.approx((0, 5, 7, 7))


def test_replicas_that_start_and_drain_cost_what_they_cost() -> None:
    class Blink:
        def wanted(self, now: float, view: View) -> int:
            return 2 if LATER <= now < LATER + 10 else 1

    result = simulate(a_trace(), Blink(), 1, PLAIN)

    assert result.replica_seconds == pytest.approx(1000 - WARM_UP_SECONDS + 10, abs=1)
    assert result.turns == 1


@pytest.mark.parametrize("name", traces.NAMES)
def test_a_trace_is_the_same_for_the_same_seed_and_has_the_published_lengths(name: str) -> None:
    trace = traces.make(name, 5)
    answers = [request.answer for request in trace.requests]

    assert trace == traces.make(name, 5) != traces.make(name, 6)
    assert [r.at for r in trace.requests] == sorted(r.at for r in trace.requests)
    assert median(answers) == pytest.approx(129, rel=0.1)
    assert mean(answers) == pytest.approx(200, rel=0.1), "the longest are cut at a thousand tokens"


def test_the_same_seed_plays_the_same_and_every_policy_ends_with_everybody_served() -> None:
    trace = traces.make("step", 3)
    short = Trace("step", 900.0, tuple(r for r in trace.requests if r.at < 900), 1)
    for setting in sweeping.as_they_come("step"):
        first, second = (simulate(short, setting.make(short, Machine()), 3) for _ in range(2))
        assert first == second
        counted = sum(r.at >= WARM_UP_SECONDS for r in short.requests)
        assert len(first.waits) + first.lost >= counted


def a_figure(policy: str, cost: float, p99: float) -> Figure:
    return Figure(Setting(policy, 8, ()), "t", cost, 0.0, p99, 0, 0)


def test_a_setting_is_unbeaten_where_nothing_is_as_cheap_and_as_quick() -> None:
    figures = [a_figure("HPA", cost, p99) for cost, p99 in ((10, 9), (11, 9), (12, 5), (13, 6), (14, 1))]

    assert [(f.replica_seconds, f.p99) for f in unbeaten(figures)] == [(10, 9), (12, 5), (14, 1)]
    assert cheapest(figures, "HPA", 5.5) == figures[2]
    assert cheapest(figures, "HPA", 0.5) is None


def test_the_page_says_what_is_saved_and_what_is_lost() -> None:
    swept = [
        a_figure("Shoal", 3600, 5),
        a_figure("HPA", 4500, 5.3),
        a_figure("Knative", 4000, 9),
        a_figure("Shoal", 9000, 4),
    ]

    assert [(own.p99, share) for own, _, share in savings(swept)] == [(5, pytest.approx(0.2)), (4, None)]
    assert backward(swept) == [pytest.approx(0.1), pytest.approx(0.2)], "each beside the 3600 that wait 5 s"
    bound = [a_figure("foresight", 3000, 5)]
    told = page({"spike": Judged(swept, [a_figure("HPA", 100, 3)], bound, {"slow start": swept})})
    assert "| +33% to +33%, median +33% |" in told
    assert "| spike, slow start | +20% to +20%, median +20%; 1 of 2 unmatched |" in told
    assert "+20% (HPA: target 8)" in told
    assert "| HPA | 0.03 | 0.0 | 3.0 | 0 | 0 |" in told
