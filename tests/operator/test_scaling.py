"""How many replicas: stories over time. Each moves `now` in half seconds, as the load stream and the clock would."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from builders import a_model
from load_story import Story
from replicas import T0
from shoal_api.conditions import Reason
from shoal_operator import scaling
from shoal_operator.load import UNKNOWN, Load, Sample, least, mean
from shoal_operator.scaling import FRESH

RULE: dict[str, Any] = {
    "minReplicas": 0,
    "maxReplicas": 20,
    "targetLoad": 4,
    "idleSeconds": 300,
    "scaleDownDelaySeconds": 60,
}
ONE_AT_LEAST = RULE | {"minReplicas": 1}


def a_sample(seconds: float, load: int) -> Sample:
    return Sample(T0 + timedelta(seconds=seconds), 0, load)


def test_a_mean_counts_each_load_for_as_long_as_it_lasted() -> None:
    samples = [a_sample(0, 10), a_sample(50, 0), a_sample(59, 100)]

    assert mean(samples, 60, T0 + timedelta(seconds=60)) == pytest.approx((500 + 100) / 60)
    assert mean(samples, 10, T0 + timedelta(seconds=60)) == pytest.approx(10.0)
    assert least(samples, 2, T0 + timedelta(seconds=60)) == 0
    assert least(samples, 1, T0 + timedelta(seconds=60)) == 100


@pytest.mark.parametrize(
    ("spec", "replicas", "reason"),
    [
        ({"replicas": 3}, 3, Reason.FIXED_REPLICAS),
        ({"replicas": 0, "scaling": RULE}, 0, Reason.FIXED_REPLICAS),
        ({"replicas": 7, "scaling": RULE | {"maxReplicas": 2}}, 7, Reason.FIXED_REPLICAS),
        ({}, 1, Reason.DEFAULT_REPLICAS),
    ],
)
def test_a_number_that_is_given_wins_whatever_the_load(spec: dict[str, Any], replicas: int, reason: Reason) -> None:
    load = Load((a_sample(-100, 50),))

    decision = scaling.decide(a_model(**spec).spec, 5, 5, load, FRESH, T0)

    assert (decision.replicas, decision.reason, decision.follows_load) == (replicas, reason, False)


@pytest.mark.parametrize(
    ("load", "replicas"), [(1, 1), (4, 1), (5, 2), (8, 2), (40, 10), (80, 20), (81, 20), (9999, 20)]
)
def test_so_many_that_none_carries_more_than_the_target(load: int, replicas: int) -> None:
    story = Story(RULE).goes_on(5, load)

    assert story.current == replicas


def test_a_load_of_four_that_becomes_forty_has_ten_wanted_within_three_seconds_and_never_more() -> None:
    story = Story(ONE_AT_LEAST, current=1, cold_seconds=45).goes_on(60, 4)
    begin = story.now
    story.goes_on(60, 40)

    assert story.counts == [1, 10], "those that start are counted: no overshoot"
    assert story.seconds_until(10, begin) <= 3.0
    risen = next(d for d in story.decisions if d.replicas == 10)
    assert (risen.reason, risen.because) == (
        Reason.LOAD_ROSE,
        "load 40 (0 wait, 40 run) at target 4 needs 10 replicas",
    )


@pytest.mark.parametrize(("seconds", "counts"), [(1.0, [1]), (3.0, [1, 10])])
def test_a_blink_buys_nothing(seconds: float, counts: list[int]) -> None:
    story = Story(ONE_AT_LEAST, current=1).goes_on(60, 4).goes_on(seconds, 40).goes_on(10, 4)

    assert story.counts == counts


@pytest.mark.parametrize(
    ("load", "waiting", "seconds", "wanted"),
    [
        (18, 0, 3, 1),  # a little over the target, nobody waits: it may be over in a moment
        (18, 0, 18, 1),
        (18, 0, 21, 2),
        (17, 1, 3, 2),  # somebody waits
        (20, 0, 3, 2),  # a quarter over it
    ],
)
def test_a_load_over_the_target_is_believed_the_sooner_the_worse_it_is(
    load: int, waiting: int, seconds: float, wanted: int
) -> None:
    story = Story(ONE_AT_LEAST | {"targetLoad": 16}, current=1).goes_on(60, 16).goes_on(seconds, load, waiting=waiting)

    assert story.current == wanted


@pytest.mark.parametrize(
    ("service_seconds", "ready", "running", "replicas"),
    [
        (None, 1, 8, 7),  # nobody knows how long a request runs: heads
        (10.0, 1, 8, 2),  # 480 s of work in 120 s: four, beside the eight that run
        (60.0, 1, 8, 4),
        (10.0, 0, 0, 2),  # who has waited for a whole start waits for half a minute more: sixteen
        (60.0, 0, 0, 6),  # never more than one for each of the target
    ],
)
def test_a_queue_is_work_once_it_is_known_how_long_a_request_runs(
    service_seconds: float | None, ready: int, running: int, replicas: int
) -> None:
    load = Load((Sample(T0 - timedelta(seconds=30), 48, running),))
    memory = replace(FRESH, service_seconds=service_seconds)

    decision = scaling.decide(a_model(scaling=ONE_AT_LEAST | {"targetLoad": 8}).spec, 1, ready, load, memory, T0)

    assert decision.replicas == replicas


@pytest.mark.parametrize(("a_second", "replicas"), [(0, 3), (4, 5)])
def test_what_arrives_will_run(a_second: int, replicas: int) -> None:
    samples = [
        Sample(T0 - timedelta(seconds=ago), 30 - a_second * ago, 16, 100 - a_second * ago) for ago in range(6, -1, -1)
    ]
    memory = replace(FRESH, service_seconds=10.0)

    decision = scaling.decide(a_model(scaling=ONE_AT_LEAST | {"targetLoad": 8}).spec, 1, 1, Load(samples), memory, T0)

    assert decision.replicas == replicas


def test_from_zero_the_first_held_request_counts_at_once_and_so_does_the_crowd_behind_it() -> None:
    story = Story(RULE).goes_on(10)
    assert (story.current, story.last.because) == (0, "nobody asks; the first request starts a replica")

    story.goes_on(0, waiting=1)
    assert (story.current, story.last.reason) == (1, Reason.WOKEN)
    story.goes_on(0, waiting=23)
    assert (story.current, story.last.reason) == (6, Reason.LOAD_ROSE)


def test_scale_down_waits_for_the_minute_and_its_delay_and_goes_to_what_was_needed_meanwhile() -> None:
    story = Story(ONE_AT_LEAST, current=10).goes_on(120, 40)
    begin = story.now
    story.goes_on(50, 4)
    assert (story.current, story.last.reason) == (10, Reason.HELD_BY_DELAY)
    story.goes_on(90, 4)

    assert story.current == 1
    assert Reason.LOAD_FELL in [d.reason for d in story.decisions]
    first_down = next(n for n, d in enumerate(story.decisions) if d.replicas < 10)
    assert (T0 + timedelta(seconds=first_down / 2) - begin).total_seconds() >= 60


def test_a_spike_of_five_seconds_begins_the_delay_anew() -> None:
    story = Story(ONE_AT_LEAST, current=10).goes_on(120, 40).goes_on(55, 4).goes_on(5, 40)
    spike = story.now
    story.goes_on(58, 4)
    assert story.current == 10, "the delay counts from the end of the spike"
    story.goes_on(120, 4)

    assert story.current == 1
    assert story.now > spike


@pytest.mark.parametrize("spike", [37, 41, 48])
def test_a_spike_that_the_replicas_carry_keeps_them_for_the_delay(spike: int) -> None:
    rule = ONE_AT_LEAST | {"maxReplicas": 4, "targetLoad": 12, "scaleDownDelaySeconds": 30}
    story = Story(rule, current=4).goes_on(75, 5).goes_on(5, spike).goes_on(28, 5)
    assert story.current == 4
    story.goes_on(90, 5)
    assert story.current == 1


def test_a_spike_below_what_is_there_keeps_as_many_as_it_needed() -> None:
    story = Story(ONE_AT_LEAST, current=10).goes_on(120, 40).goes_on(100, 4).goes_on(5, 24)
    story.goes_on(58, 4)
    assert story.current == 6
    story.goes_on(120, 4)
    assert story.current == 1


def test_without_a_delay_a_crowd_that_is_over_keeps_what_the_average_of_half_a_minute_needs() -> None:
    at_most = ONE_AT_LEAST | {"maxReplicas": 2, "scaleDownDelaySeconds": 0}
    story = Story(at_most, current=2).goes_on(61, 2).goes_on(10, 60)
    assert story.last.reason is Reason.AT_MAXIMUM
    story.goes_on(20, 2)

    assert (story.current, story.last.reason) == (2, Reason.HELD_BY_WINDOW)
    assert "half a minute" in story.last.because
    story.goes_on(28, 2)
    assert story.current == 1


def test_without_a_delay_what_was_needed_a_moment_ago_stays_all_the_same() -> None:
    story = Story(ONE_AT_LEAST | {"scaleDownDelaySeconds": 0}, current=1).goes_on(60, 4).goes_on(4, 12)
    assert story.current == 3
    story.goes_on(13, 4)
    assert story.current == 3
    story.goes_on(40, 4)
    assert story.current == 1


def test_zero_is_reached_after_the_idle_time_and_not_while_anything_waits_or_runs() -> None:
    story = Story(RULE, current=1).goes_on(600, 1)
    assert story.current == 1, "a long stream keeps it up"
    begin = story.now
    story.goes_on(299)
    assert (story.current, story.last.reason) == (1, Reason.HELD_UNTIL_IDLE)
    assert story.last.look_again_after == pytest.approx(1, abs=1)
    story.goes_on(3)

    assert (story.current, story.last.reason) in [(0, Reason.IDLE), (0, Reason.FOLLOWS_LOAD)]
    assert story.seconds_until(0, begin) == pytest.approx(300, abs=1)


def test_requests_too_short_to_be_seen_running_count_as_use() -> None:
    story = Story(RULE, current=1).goes_on(290)
    seen_by_a_gateway = story.now
    story.load = Load(story.load.samples, seen_by_a_gateway)
    story.goes_on(290)

    assert story.current == 1
    story.goes_on(15)
    assert story.current == 0


def test_with_an_idle_time_of_zero_the_last_request_ends_it() -> None:
    story = Story(RULE | {"idleSeconds": 0}, current=1).goes_on(10, 1).goes_on(0)

    assert story.current == 0


def test_no_data_is_not_zero() -> None:
    story = Story(RULE, current=5)
    story.load = UNKNOWN
    for _ in range(2000):
        story.decide()
        story.now += timedelta(seconds=1)

    assert story.counts == [5]
    assert (story.last.reason, story.last.follows_load) == (Reason.NO_LOAD_DATA, False)


@pytest.mark.parametrize("load", [0, 4])
def test_a_silent_gateway_freezes_the_way_down_and_says_so(load: int) -> None:
    story = Story(RULE, current=5).goes_on(70, load).silent_for(1000, "gateway b")

    assert story.counts == [5]
    assert (story.last.reason, story.last.follows_load) == (Reason.GATEWAY_SILENT, False)
    assert "gateway b is silent" in story.last.because
    story.goes_on(0, 4).goes_on(58, load)
    assert story.current == 5, "the delay begins when it speaks again"
    story.goes_on(500, load)
    assert story.current == (1 if load else 0)


def test_a_gateway_that_is_late_now_and_then_does_not_prolong_the_delay_for_ever() -> None:
    rule = ONE_AT_LEAST | {"scaleDownDelaySeconds": 30}
    story = Story(rule, current=5).goes_on(85, 4).goes_on(5, 20)
    begin = story.now
    silent = 0.0
    while story.current == 5:
        assert (story.now - begin).total_seconds() < 90
        story.goes_on(6, 4).silent_for(2, "gateway b")
        silent += 2.5

    known = (story.now - begin).total_seconds() - silent
    assert 30 <= known < 30 + 8, "the seconds in which it was silent do not count, the others do"


@pytest.mark.parametrize(("silent", "current"), [(14, 1), (16, 5)])
def test_after_a_moment_of_silence_the_delay_goes_on_and_after_long_it_begins_anew(silent: int, current: int) -> None:
    story = Story(ONE_AT_LEAST, current=5).goes_on(70, 4)
    assert (story.current, story.last.reason) == (5, Reason.HELD_BY_DELAY)
    story.silent_for(silent, "gateway b")
    assert story.current == 5
    story.goes_on(30, 4)

    assert story.current == current, "forty of the sixty seconds were over"


def test_what_was_needed_while_a_gateway_was_silent_keeps_the_replicas_for_the_delay() -> None:
    story = Story(ONE_AT_LEAST, current=2).goes_on(120, 4).silent_for(2, "b")
    story.load = Load((*story.load.samples, Sample(story.now, 0, 20)), story.now)
    story.silent_for(4, "b")
    assert story.current == 5
    story.goes_on(58, 4)
    assert story.current == 5


def test_a_silent_gateway_does_not_stop_the_way_up() -> None:
    story = Story(RULE, current=1).goes_on(30, 4).silent_for(5, "b")
    story.load = Load((*story.load.samples, Sample(story.now, 0, 40)), story.now)
    story.silent_for(5, "b")

    assert story.current == 10


def test_a_restart_under_load_never_scales_down() -> None:
    story = Story(RULE, current=10).goes_on(300, 40).restarted()
    story.decisions.clear()
    story.goes_on(59, lambda second: 40 if second > 10 else 1)

    assert story.counts == [10], "also while the first readings are small"
    story.goes_on(120, 40)
    assert story.counts == [10]


def test_after_a_restart_half_a_minute_must_be_known_also_where_the_delay_is_shorter() -> None:
    story = Story(ONE_AT_LEAST | {"scaleDownDelaySeconds": 0}, current=10).goes_on(300, 40).restarted()
    story.goes_on(28, 4)
    assert story.current == 10
    story.goes_on(30, 4)

    assert story.current == 1


def test_a_restart_while_idle_still_reaches_zero_at_its_time() -> None:
    story = Story(RULE, current=1).goes_on(10, 1)
    begin = story.now
    for _ in range(5):
        story.goes_on(50).restarted()
    story.goes_on(60)

    assert story.current == 0
    idle = next(n for n, d in enumerate(story.decisions) if d.replicas == 0)
    assert (T0 + timedelta(seconds=idle / 2) - begin).total_seconds() == pytest.approx(300, abs=2)


def test_where_nobody_remembers_a_request_the_idle_time_begins_with_what_is_known() -> None:
    story = Story(RULE, current=1)
    story.load = Load(known_since=T0 - timedelta(seconds=290))
    story.goes_on(5)
    assert story.current == 1
    story.goes_on(10)

    assert story.current == 0


def test_a_gateway_that_is_heard_later_than_others_may_tell_that_somebody_was_there_later() -> None:
    story = Story(RULE, current=1)
    story.load = Load(known_since=T0 - timedelta(seconds=290))
    story.goes_on(5)
    story.load = replace(story.load, known_since=T0 - timedelta(seconds=100))
    story.goes_on(190)
    assert story.current == 1
    story.goes_on(10)

    assert story.current == 0


@pytest.mark.parametrize(
    ("current", "bounds", "wanted"),
    [
        (0, {"minReplicas": 3}, 3),
        (10, {"maxReplicas": 4}, 4),
        (4, {"minReplicas": 4, "maxReplicas": 4}, 4),
        (2, {"minReplicas": 1, "maxReplicas": 9}, 2),
    ],
)
def test_edits_of_the_bounds_act_at_once_even_without_data(current: int, bounds: dict[str, int], wanted: int) -> None:
    story = Story(RULE | bounds, current=current)
    story.load = UNKNOWN

    decision = story.decide()

    assert decision.replicas == wanted
    assert (decision.reason is Reason.BOUNDS_CHANGED) == (wanted != current)


def test_a_number_taken_away_again_leaves_the_load_to_decide() -> None:
    story = Story(RULE, current=2, replicas=6).goes_on(100, 8)
    assert story.current == 6
    story.replicas = None
    story.goes_on(30, 8)
    assert story.current == 6, "it goes down by the rules, not in a jump"
    story.goes_on(120, 8)

    assert story.current == 2


@pytest.mark.parametrize("seconds", [1, 5, 30])
def test_a_load_around_a_step_does_not_make_it_swing(seconds: int) -> None:
    story = Story(ONE_AT_LEAST, current=5).goes_on(1200, lambda at: 16 + 4 * (int(at / seconds) % 2))

    assert story.counts == [5] if seconds > 2 else len(story.counts) <= 2


def test_sentences_that_stand_in_a_condition_do_not_change_from_second_to_second() -> None:
    story = Story(ONE_AT_LEAST, current=5).goes_on(70, 18)
    story.decisions.clear()
    story.goes_on(60, lambda at: 17 + int(at) % 3)

    assert len({decision.because for decision in story.decisions}) == 1
