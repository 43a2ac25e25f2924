"""Replicas that take their time, in a world where nodes come and go; whoever plans is asked only when there is news, or
when the last plan said so."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from replicas import PASSING, PERMANENT, T0, a_replica
from shoal_api.conditions import Reason
from shoal_operator import planning
from shoal_operator.observed import Hindrance, Observed, Replica, ReplicaState, Revision
from shoal_operator.planning import Plan
from shoal_operator.rollout import Desired

LOADING = "loading"
MOST_STEPS = 50
"""So many in one moment only where two plans undo each other."""


@dataclass
class SlowWorld:
    """`broken` revisions give up, `hanging` ones never become ready."""

    chance: random.Random
    wish: Desired
    rooms: int
    broken: frozenset[str] = frozenset({"broken"})
    hanging: frozenset[str] = frozenset({"hanging"})
    surge_waits: str = ""
    now: datetime = T0
    replicas: dict[str, Replica] = field(default_factory=dict)
    revisions: dict[str, Revision] = field(default_factory=dict)
    _due: dict[str, datetime] = field(default_factory=dict)

    @property
    def ready(self) -> list[Replica]:
        return [r for r in self.replicas.values() if r.state is ReplicaState.READY]

    def passes(self, seconds: float) -> Iterator[tuple[Observed, Plan]]:
        """So much time; each plan that changes something, with what was seen, before it is carried out."""
        end = self.now + timedelta(seconds=seconds)
        while True:
            self._news()
            for _ in range(MOST_STEPS):
                seen = self._seen()
                plan = planning.make(self.wish, seen, self.now)
                if not plan.changes_something:
                    break
                yield seen, plan
                self._carry_out(plan)
            else:
                raise AssertionError(f"no end of plans: {plan}")
            times = [end, *self._due.values()]
            if plan.look_again_after is not None:
                times.append(self.now + timedelta(seconds=max(plan.look_again_after, 0.01)))
            self.now = min(times)
            if self.now >= end:
                return

    def one_fails(self) -> None:
        """One that serves ends, and is started again."""
        if self.ready:
            replica = self.chance.choice(self.ready)
            self._become(replica, ReplicaState.FAILED, 10, last_words=PASSING)

    def _seen(self) -> Observed:
        """The wished revision stands last; it begins as a canary beside one that worked."""
        name = self.wish.revision
        first = Revision(name, canary=any(known.proven for known in self.revisions.values()))
        known = self.revisions.pop(name, first)
        self.revisions[name] = known if self.wish.canaries else replace(known, canary=False)
        replicas = sorted(self.replicas.values(), key=lambda r: (r.created, r.name))
        return Observed(tuple(replicas), tuple(self.revisions.values()), surge_waits=self.surge_waits)

    def _carry_out(self, plan: Plan) -> None:
        for given_up in plan.give_up:
            self._know(given_up.revision, fault=given_up.words)
        for name in plan.forget:
            self._know(name, fault=None)
        for name in plan.delete:
            if self.replicas[name].state is not ReplicaState.DRAINING:
                self._become(self.replicas[name], ReplicaState.DRAINING, self.chance.choice([1, 5, 30, 600]))
        for new in plan.create:
            assert new.name not in self.replicas
            fresh = replace(a_replica(new.name, ReplicaState.STARTING, new.revision), created=self.now)
            self._become(fresh, ReplicaState.STARTING, 1)

    def _news(self) -> None:
        """What is due happens; and who waited for room takes what is free."""
        for name in [name for name, at in self._due.items() if at <= self.now]:
            del self._due[name]
            self._goes_on(self.replicas[name])
        for replica in list(self.replicas.values()):
            if replica.hindrance is not None:
                self._looks_for_room(replica)

    def _goes_on(self, replica: Replica) -> None:
        if replica.state is ReplicaState.DRAINING:
            del self.replicas[replica.name]
        elif replica.state is ReplicaState.FAILED:
            self._become(replica, ReplicaState.STARTING, 20)
        elif not replica.stage:
            self._looks_for_room(replica)
        elif replica.revision in self.broken:
            self._become(replica, ReplicaState.FAILED, None, last_words=PERMANENT)
        else:
            self._become(replica, ReplicaState.READY, None)
            self._know(replica.revision, proven=True)

    def _looks_for_room(self, replica: Replica) -> None:
        housed = sum(bool(other.stage) or other.state is ReplicaState.DRAINING for other in self.replicas.values())
        if housed < self.rooms:
            seconds = None if replica.revision in self.hanging else self.chance.choice([5, 30, 100])
            self._become(replica, ReplicaState.STARTING, seconds, stage=LOADING)
        elif replica.hindrance is None:
            waits = Hindrance(Reason.UNSCHEDULABLE, "no room", self.now, needs_room=True)
            self.replicas[replica.name] = replace(replica, hindrance=waits)

    def _become(self, replica: Replica, state: ReplicaState, next_after: float | None, **facts: object) -> None:
        changed = {"state": state, "since": self.now, "hindrance": None, **facts}
        self.replicas[replica.name] = replace(replica, **changed)  # type: ignore[arg-type]
        self._due.pop(replica.name, None)
        if next_after is not None:
            self._due[replica.name] = self.now + timedelta(seconds=next_after)

    def _know(self, name: str, **facts: object) -> None:
        self.revisions[name] = replace(self.revisions[name], **facts)  # type: ignore[arg-type]
