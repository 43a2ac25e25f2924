"""Schedules: cron expressions against known cases, clocks that are set, and what they do to the number of replicas."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from builders import a_model
from load_story import Story
from shoal_api.conditions import Reason
from shoal_operator import scaling, schedules
from shoal_operator.load import UNKNOWN, Load, Sample
from shoal_operator.scaling import FRESH

RULE: dict[str, Any] = {"minReplicas": 0, "maxReplicas": 8, "targetLoad": 4, "idleSeconds": 300}
OFFICE = {"cron": "0 8 * * MON-FRI", "timeZone": "Europe/Berlin", "durationSeconds": 36_000, "minReplicas": 3}


def at(text: str) -> datetime:
    """UTC, or what the offset says."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


# 2026-11-16 is a Monday.
@pytest.mark.parametrize(
    ("expression", "now", "begun"),
    [
        ("0 8 * * *", "2026-11-16T08:00", "2026-11-16T08:00"),
        ("0 8 * * *", "2026-11-16T07:59:59", "2026-11-15T08:00"),
        ("30 23 * * *", "2026-11-16T00:10", "2026-11-15T23:30"),
        ("*/15 * * * *", "2026-11-16T10:44:59", "2026-11-16T10:30"),
        ("5,50 9-17/4 * * *", "2026-11-16T16:00", "2026-11-16T13:50"),
        ("0 22-2 * * *", "2026-11-16T03:00", "2026-11-16T02:00"),
        ("0 8 * * MON-FRI", "2026-11-15T12:00", "2026-11-13T08:00"),
        ("0 8 * * FRI-MON", "2026-11-18T12:00", "2026-11-16T08:00"),
        ("0 8 * * 7", "2026-11-16T12:00", "2026-11-15T08:00"),
        ("0 8 * * 0", "2026-11-16T12:00", "2026-11-15T08:00"),
        ("0 8 * * 5-7", "2026-11-16T12:00", "2026-11-15T08:00"),
        ("0 0 15 * *", "2026-11-16T12:00", "2026-11-15T00:00"),
        ("0 0 13 * FRI", "2026-11-16T12:00", "2026-11-13T00:00"),
        ("0 0 1 * SUN", "2026-11-16T12:00", "2026-11-15T00:00"),
        ("0 0 1 * SUN", "2026-12-02T12:00", "2026-12-01T00:00"),
        ("0 0 */2 * MON", "2026-11-18T12:00", None),
        ("0 0 * NOV,DEC *", "2026-11-01T12:00", "2026-11-01T00:00"),
        ("0 0 * 12 *", "2026-11-16T12:00", None),
        ("0 0 29 2 *", "2028-03-01T12:00", "2028-02-29T00:00"),
        ("0 0 30 2 *", "2026-03-02T12:00", None),
    ],
)
def test_when_an_expression_began_last_within_a_week(expression: str, now: str, begun: str | None) -> None:
    found = schedules.last_begin(schedules.read(expression), ZoneInfo("UTC"), at(now), timedelta(days=5))

    assert found == (at(begun) if begun else None)


@pytest.mark.parametrize(
    ("expression", "zone", "now", "begun"),
    [
        # in summer Berlin is two hours ahead, in winter one
        ("0 8 * * *", "Europe/Berlin", "2026-07-01T06:00", "2026-07-01T06:00"),
        ("0 8 * * *", "Europe/Berlin", "2026-12-01T06:59", None),
        ("0 8 * * *", "Europe/Berlin", "2026-12-01T07:00", "2026-12-01T07:00"),
        # the days on which its clock is set
        ("0 8 * * *", "Europe/Berlin", "2026-03-29T06:00", "2026-03-29T06:00"),
        ("0 8 * * *", "Europe/Berlin", "2026-10-25T07:00", "2026-10-25T07:00"),
        # 2:30 is skipped in spring and comes twice in autumn
        ("30 2 * * *", "Europe/Berlin", "2026-03-29T01:29", None),
        ("30 2 * * *", "Europe/Berlin", "2026-03-29T01:30", "2026-03-29T01:30"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30", "2026-10-25T00:30"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T01:45", "2026-10-25T00:30"),
        # another day there than here, and half hours
        ("0 1 * * TUE", "Asia/Kolkata", "2026-11-16T20:00", "2026-11-16T19:30"),
        ("0 20 * * MON", "America/Los_Angeles", "2026-11-17T05:00", "2026-11-17T04:00"),
    ],
)
def test_an_expression_reads_the_clock_of_its_zone(expression: str, zone: str, now: str, begun: str | None) -> None:
    found = schedules.last_begin(schedules.read(expression), ZoneInfo(zone), at(now), timedelta(hours=6))

    assert found == (at(begun) if begun else None)


@pytest.mark.parametrize(
    ("now", "replicas", "again"),
    [
        ("2026-11-16T06:59:30", 0, 30.0),
        ("2026-11-16T07:00:00", 3, 60.0),
        ("2026-11-16T16:59:50", 3, 10.0),
        ("2026-11-16T17:00:00", 0, 60.0),
        ("2026-11-15T12:00:00", 0, 60.0),
    ],
)
def test_a_schedule_holds_from_its_beginning_for_its_duration(now: str, replicas: int, again: float) -> None:
    rule = a_model(scaling=RULE | {"schedules": [OFFICE]}).spec.scaling
    assert rule is not None

    floor = schedules.floor(rule, at(now))

    assert (floor.replicas, floor.look_again_after) == (replicas, again)
    assert bool(floor.because) == bool(replicas)


@pytest.mark.parametrize(("own", "floor"), [(0, 5), (4, 5), (6, 6)])
def test_of_several_the_most_counts_and_none_lowers_the_models_own(own: int, floor: int) -> None:
    always = {"cron": "0 0 * * *", "durationSeconds": 86_400, "minReplicas": 1}
    most = OFFICE | {"minReplicas": 5}
    rule = a_model(scaling=RULE | {"minReplicas": own, "schedules": [most, OFFICE, always]}).spec.scaling
    assert rule is not None

    assert schedules.floor(rule, at("2026-11-16T12:00")).replicas == floor


@pytest.mark.parametrize("load", [UNKNOWN, Load((Sample(at("2026-11-16T06:00"), 0, 0),))])
def test_its_replicas_are_made_when_it_begins_whether_the_load_is_known_or_not(load: Load) -> None:
    spec = a_model(scaling=RULE | {"schedules": [OFFICE]}).spec

    decision = scaling.decide(spec, 0, 0, load, FRESH, at("2026-11-16T07:00"))

    assert (decision.replicas, decision.reason) == (3, Reason.SCHEDULED)
    assert decision.because == "scaling.schedules[0] wants at least 3 replicas until Mon 18:00 (Europe/Berlin)"


def test_a_day_with_a_schedule() -> None:
    rule = RULE | {"schedules": [OFFICE], "scaleDownDelaySeconds": 60}
    story = Story(rule, now=at("2026-11-16T06:58")).goes_on(119)
    assert (story.counts, story.last.look_again_after) == ([0], pytest.approx(1.0, abs=0.6))

    story.goes_on(60)
    assert (story.current, story.last.reason) == (3, Reason.SCHEDULED)
    story.goes_on(20, 24)
    assert story.current == 6, "the load still has more made"
    story.goes_on(200, 1)
    assert (story.current, story.last.reason) == (3, Reason.SCHEDULED)
    assert len({decision.because for decision in story.decisions if decision.reason is Reason.SCHEDULED}) == 1
    story.now = at("2026-11-16T16:50")
    story.goes_on(590)
    assert story.current == 3, "nobody asks, and the schedule holds"
    story.goes_on(30)
    assert (story.current, story.counts[-2:]) == (0, [3, 0])
    assert next(d for d in reversed(story.decisions) if d.reason is Reason.IDLE)


def test_a_number_that_is_given_wins_over_schedules() -> None:
    spec = a_model(scaling=RULE | {"schedules": [OFFICE]}, replicas=1).spec

    decision = scaling.decide(spec, 1, 1, UNKNOWN, FRESH, at("2026-11-16T12:00"))

    assert (decision.replicas, decision.reason, decision.look_again_after) == (1, Reason.FIXED_REPLICAS, None)
