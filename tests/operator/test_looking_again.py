"""Who looks only when told to, or when something happens, decides what one who looks all the time would decide."""

import random
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from builders import a_model
from replicas import PASSING, PERMANENT, T0, a_replica
from shoal_api.conditions import Reason
from shoal_operator import planning, scaling
from shoal_operator.load import Load, Sample
from shoal_operator.observed import Hindrance, Observed, Replica, ReplicaState, Revision
from shoal_operator.rollout import Desired
from shoal_operator.scaling import FRESH, Decision

RULE: dict[str, Any] = {
    "minReplicas": 0,
    "maxReplicas": 4,
    "targetLoad": 4,
    "idleSeconds": 60,
    "scaleDownDelaySeconds": 120,
}
LATE_SECONDS = 1.01
"""No decision about the load needs to come sooner than the second in which gateways tell it."""


class Followed:
    """One model whose load changes now and then, looked at only when that happens or the last decision said so."""

    def __init__(self, rule: dict[str, Any], current: int = 1, load: int = 0) -> None:
        self.spec = a_model(scaling=RULE | rule).spec
        self.now = T0
        self.current = self.ready = current
        self.load = Load((Sample(T0 - timedelta(seconds=100), 0, load),), T0)
        self.memory = FRESH
        self.due: datetime | None = None
        self.last: Decision = self.look()

    def look(self) -> Decision:
        """Where that changes the number pods come and go, which is reason enough to look once more."""
        for _ in range(2):
            self.last = self.decide(self.now)
            self.memory, self.current = self.last.memory, self.last.replicas
            self.ready = min(self.ready, self.current)
        again = self.last.look_again_after
        self.due = None if again is None else self.now + timedelta(seconds=max(again, 0.01))
        return self.last

    def decide(self, at: datetime, memory: scaling.Memory | None = None) -> Decision:
        return scaling.decide(self.spec, self.current, self.ready, self.load, memory or self.memory, at)

    def comes(self, waiting: int, in_flight: int, arrived: int = 0) -> "Followed":
        sample = Sample(self.now, waiting, in_flight, self.load.newest.arrived + arrived)
        self.load = replace(self.load, samples=(*self.load.samples, sample), busy_at=self.now)
        self.look()
        return self

    def silent(self, *gateways: str) -> "Followed":
        self.load = replace(self.load, missing=gateways, silent=gateways)
        self.look()
        return self

    def next_look(self, end: datetime) -> datetime:
        """When somebody looks again, if that is before the end; else the end."""
        return end if self.due is None else min(end, self.due)

    def goes_on(self, seconds: float) -> "Followed":
        """Nothing happens for so long."""
        end = self.now + timedelta(seconds=seconds)
        while (at := self.next_look(end)) < end:
            self.now = at
            self.look()
        self.now = end
        return self


@pytest.mark.parametrize("silent", [(), ("gateway b",)])
def test_a_burst_of_long_requests_is_looked_at_until_it_has_lasted(silent: tuple[str, ...]) -> None:
    """They run for minutes, and no gateway has anything new to tell meanwhile."""
    model = Followed({"maxReplicas": 3}, load=4).silent(*silent).comes(0, 40)
    assert model.current == 1

    model.goes_on(4)

    assert model.current == 3


def test_a_burst_while_fewer_would_have_done_is_looked_at_too() -> None:
    model = Followed({"minReplicas": 1}, current=3, load=12).comes(0, 2).goes_on(40)
    assert model.last.reason is Reason.HELD_BY_DELAY
    model.comes(0, 16).goes_on(4)

    assert model.current == 4


def test_the_idle_time_ends_where_it_should_though_the_delay_is_longer() -> None:
    model = Followed({}, current=3, load=12).goes_on(5).comes(0, 0).goes_on(59)
    assert model.current > 0
    model.goes_on(2)

    assert model.current == 0


def test_the_least_work_wakes_a_model() -> None:
    """Embeddings run for milliseconds; somebody waits already when `replicas: 0` is taken away again."""
    model = Followed({"targetLoad": 256}, current=0)
    model.memory = replace(FRESH, service_seconds=0.004)
    model.load = replace(model.load, samples=(Sample(T0 - timedelta(seconds=20), 1, 0, 7),))

    assert model.look().replicas == 1


@pytest.mark.parametrize("seed", range(30))
def test_without_news_nothing_but_a_look_that_was_asked_for_would_change_the_number(seed: int) -> None:
    chance = random.Random(seed)
    rule = {
        "minReplicas": chance.choice([0, 0, 1, 2]),
        "maxReplicas": chance.choice([3, 8]),
        "targetLoad": chance.choice([1, 4, 16]),
        "idleSeconds": chance.choice([0, 5, 30]),
        "scaleDownDelaySeconds": chance.choice([0, 20, 40]),
    }
    model = Followed(rule, chance.randrange(rule["maxReplicas"] + 1), chance.randrange(30))
    for _ in range(12):
        if chance.random() < 0.2:
            model.silent(*([] if model.load.silent else ["gateway b"]))
        else:
            loads = [(0, 0), (0, chance.randrange(40)), (chance.randrange(40), chance.randrange(10))]
            model.comes(*chance.choice(loads), arrived=chance.randrange(20))
        model.ready = chance.randint(0, model.current)
        model.look()
        end = model.now + timedelta(seconds=chance.choice([0.5, 3, 25, 70, 400]))
        while model.now < end:
            nobody_looks(model, model.next_look(end))
            model.now = model.next_look(end)
            model.look()


def nobody_looks(model: Followed, until: datetime) -> None:
    """Nor would anybody who does in the meantime decide otherwise."""
    at, memory = model.now + timedelta(seconds=0.5), model.memory
    while at < until - timedelta(seconds=LATE_SECONDS):
        decision = model.decide(at, memory)
        assert decision.replicas == model.current, (decision, (at - model.now).total_seconds(), model.last)
        if model.last.look_again_after is None:
            memory = decision.memory
        at += timedelta(seconds=1 if (at - model.now).total_seconds() < 40 else 10)


@pytest.mark.parametrize("seed", range(8))
def test_a_plan_that_time_alone_would_change_says_when_to_look_again(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(60):
        only_time_goes_on(chance)


def only_time_goes_on(chance: random.Random) -> None:
    old = Revision("old", proven=chance.random() < 0.8)
    new = Revision("new", proven=chance.random() < 0.3, fault=chance.choice([None, None, None, PASSING]))
    wish = Desired(
        "qwen",
        "new",
        chance.randrange(4),
        surge=chance.random() < 0.6,
        start_deadline_seconds=chance.choice([60, 120]),
        makes_way=chance.random() < 0.5,
        is_scheduled=chance.random() < 0.6,
    )
    replicas = tuple(somebody(chance, f"r{index}") for index in range(chance.randrange(5)))
    seen = Observed(replicas, (old, new), surge_waits=chance.choice(["", "team/b goes first"]))
    plan = planning.make(wish, seen, T0)
    if plan.changes_something:
        return

    seconds = 1.0
    while seconds < (plan.look_again_after or 200):
        later = planning.make(wish, seen, T0 + timedelta(seconds=seconds))
        assert not later.changes_something, (seconds, plan.look_again_after, later)
        seconds += 7


def somebody(chance: random.Random, name: str) -> Replica:
    state, age = chance.choice(list(ReplicaState)), chance.choice([1, 30, 100])
    since = chance.randrange(age + 1)
    replica = a_replica(name, state, chance.choice(["old", "new"]), age=age, since=since)
    if state is ReplicaState.FAILED:
        return replace(replica, last_words=chance.choice([PASSING, PERMANENT]))
    if state is ReplicaState.STARTING and chance.random() < 0.5:
        waits = T0 - timedelta(seconds=since)
        return replace(replica, hindrance=Hindrance(Reason.UNSCHEDULABLE, "no node", waits, chance.random() < 0.6))
    return replica


def test_a_new_revision_that_waits_for_room_is_looked_at_at_its_deadline() -> None:
    """Of a pod without a node nobody has news."""
    hindrance = Hindrance(Reason.UNSCHEDULABLE, "no node has room", T0 - timedelta(seconds=50), needs_room=True)
    waits = replace(a_replica("b", ReplicaState.STARTING, "new", age=50), hindrance=hindrance)
    seen = Observed((a_replica("a", revision="old"), waits), (Revision("old", proven=True), Revision("new")))
    wish = Desired("qwen", "new", 1, surge=True, start_deadline_seconds=1800, is_scheduled=True)

    assert planning.make(wish, seen, T0).look_again_after == 1750


def test_a_revision_whose_first_replica_became_ready_in_the_moment_of_the_deadline_is_not_given_up() -> None:
    """Its record does not say yet that it worked."""
    old = tuple(a_replica(name, revision="old") for name in ("a", "b"))
    ready = a_replica("c", ReplicaState.READY, "new", age=70, since=0)
    hangs = a_replica("d", ReplicaState.STARTING, "new", age=70)
    seen = Observed((*old, ready, hangs), (Revision("old", proven=True), Revision("new")))

    plan = planning.make(Desired("qwen", "new", 3, surge=True, start_deadline_seconds=60), seen, T0)

    assert (plan.give_up, plan.delete) == ((), ("d",))
