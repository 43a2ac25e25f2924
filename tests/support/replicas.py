"""Observed replicas and a world in small: what a plan becomes when everything it asks for happens."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from shoal_api.conditions import Reason
from shoal_api.termination import LastWords
from shoal_operator import planning
from shoal_operator.observed import Endpoint, Hindrance, Observed, Replica, ReplicaState, Revision
from shoal_operator.planning import Plan
from shoal_operator.rollout import Desired

T0 = datetime(2026, 1, 1, tzinfo=UTC)
PERMANENT = LastWords("--max-model-len is too large", permanent=True)
PASSING = LastWords("the hub did not answer", permanent=False)


def a_replica(
    name: str = "qwen-new-0",
    state: ReplicaState = ReplicaState.READY,
    revision: str = "new",
    *,
    age: float = 100,
    since: float | None = None,
    last_words: LastWords | None = None,
    restarts: int = 0,
    stage: str = "",
) -> Replica:
    """A replica that is `age` seconds old at T0, for `since` seconds (default: age) in its state."""
    return Replica(
        name=name,
        uid=f"uid-{name}",
        revision=revision,
        state=state,
        since=T0 - timedelta(seconds=age if since is None else since),
        created=T0 - timedelta(seconds=age),
        stage=stage,
        restarts=restarts,
        last_words=last_words,
        endpoint=Endpoint("127.0.0.1", 30000),
    )


def desired(replicas: int = 1, *, surge: bool = False, deadline: float = 1800, revision: str = "new") -> Desired:
    return Desired("qwen", revision, replicas, surge, deadline, asks_for_none=replicas == 0)


@dataclass
class SmallWorld:
    """Replicas that become ready, fail or go when told; `cannot_start` names revisions that never will."""

    cannot_start: frozenset[str] = frozenset()
    rooms: int | None = None
    """So many replicas find room; further ones wait for it."""
    canaries: frozenset[str] = frozenset()
    """Revisions that take over only when they are promoted."""
    replicas: list[Replica] = field(default_factory=list)
    revisions: list[Revision] = field(default_factory=list)
    now: datetime = T0
    history: list[tuple[int, int]] = field(default_factory=list)
    """After each round: how many replicas were there, how many ready."""

    def observed(self, wish: Desired) -> Observed:
        if wish.revision not in [r.name for r in self.revisions]:
            self.revisions.append(Revision(wish.revision, canary=wish.revision in self.canaries))
        return Observed(tuple(self.replicas), tuple(self.revisions))

    def promote(self, revision: str) -> None:
        self.revisions = [replace(r, canary=r.canary and r.name != revision) for r in self.revisions]

    def run(self, wish: Desired, rounds: int) -> None:
        """So many rounds, whether or not anything changes."""
        for _ in range(rounds):
            self.apply(planning.make(wish, self.observed(wish), self.now))
            self.history.append((len(self.replicas), sum(r.state is ReplicaState.READY for r in self.replicas)))

    def settle(self, wish: Desired, rounds: int = 40) -> list[Plan]:
        """Plan and carry out until nothing changes any more."""
        plans: list[Plan] = []
        for _ in range(rounds):
            plan = planning.make(wish, self.observed(wish), self.now)
            before = list(self.replicas)
            self.apply(plan)
            self.history.append((len(self.replicas), sum(r.state is ReplicaState.READY for r in self.replicas)))
            if not plan.changes_something and before == self.replicas:
                return plans
            plans.append(plan)
        raise AssertionError(f"not settled after {rounds} rounds: {plans[-3:]}")

    def apply(self, plan: Plan) -> None:
        """First what was under way comes to its end, then the plan's own steps begin."""
        self.now += timedelta(seconds=1)
        self.replicas = [r for r in self.replicas if r.state is not ReplicaState.DRAINING]
        self._each(lambda r: r.state is ReplicaState.STARTING, self._started)
        for given_up in plan.give_up:
            self._know(given_up.revision, given_up.words)
        for name in plan.forget:
            self._know(name, None)
        self._each(lambda r: r.name in plan.delete, lambda r: replace(r, state=ReplicaState.DRAINING))
        for new in plan.create:
            fresh = a_replica(new.name, ReplicaState.STARTING, new.revision, age=0)
            self.replicas.append(replace(fresh, created=self.now, since=self.now))

    def _started(self, replica: Replica) -> Replica:
        housed = sum(r.state in (ReplicaState.READY, ReplicaState.FAILED) for r in self.replicas)
        if self.rooms is not None and housed >= self.rooms:
            return replace(
                replica, hindrance=Hindrance(Reason.UNSCHEDULABLE, "no GPU", replica.created, needs_room=True)
            )
        replica = replace(replica, hindrance=None)
        if replica.revision in self.cannot_start:
            self._know(replica.revision, PERMANENT)
            return replace(replica, state=ReplicaState.FAILED, last_words=PERMANENT)
        self.revisions = [replace(r, proven=True) if r.name == replica.revision else r for r in self.revisions]
        return replace(replica, state=ReplicaState.READY)

    def _each(self, chosen: Callable[[Replica], bool], change: Callable[[Replica], Replica]) -> None:
        for index, replica in enumerate(self.replicas):
            if chosen(replica):
                self.replicas[index] = change(replica)

    def _know(self, name: str, fault: LastWords | None) -> None:
        self.revisions = [replace(r, fault=fault) if r.name == name else r for r in self.revisions]
