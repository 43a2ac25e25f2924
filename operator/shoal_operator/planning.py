"""Decide what must change, so that what is there becomes what is wished."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from shoal_api import naming
from shoal_api.termination import LastWords
from shoal_operator import canary, rollout
from shoal_operator.observed import Observed, Replica, ReplicaState, Revision
from shoal_operator.rollout import Desired, Target


class Step(StrEnum):
    """What a plan is about; stands as `reason=` in the log and on Events."""

    NOTHING = "Nothing"
    SCALED_UP = "ScaledUp"
    SCALED_DOWN = "ScaledDown"
    REPLACED = "Replaced"
    """A replica that cannot become ready makes way."""
    ROLLED_OUT = "RolledOut"
    """A replica of an older revision makes way for the new one."""
    RESTORED = "Restored"
    """The new revision cannot start: the old one comes back."""


@dataclass(frozen=True, slots=True)
class NewReplica:
    """A replica to be made."""

    name: str
    revision: str
    beside: bool = False
    """It stands beside as many others as are wanted, for a while."""


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A revision to be remembered as not to be tried."""

    revision: str
    words: LastWords


@dataclass(frozen=True, slots=True)
class Plan:
    """What to make and what to drain now, and when to look again even if nothing happens."""

    create: tuple[NewReplica, ...] = ()
    delete: tuple[str, ...] = ()
    give_up: tuple[GivenUp, ...] = ()
    forget: tuple[str, ...] = ()
    """Revisions whose fault is forgotten, because the wish has changed."""
    step: Step = Step.NOTHING
    because: str = ""
    look_again_after: float | None = None

    @property
    def changes_something(self) -> bool:
        return bool(self.create or self.delete or self.give_up or self.forget)


def make(
    desired: Desired, observed: Observed, now: datetime, in_flight: Mapping[str, int] = rollout.NOTHING_KNOWN
) -> Plan:
    """The next step from what is observed to what is desired; nothing where they agree.

    `in_flight`: how many requests each replica works on, by its name.
    """
    forget = _forgotten(desired, observed)
    observed = _with_faults(observed, dict.fromkeys(forget))
    words = rollout.given_up(desired, observed, now)
    give_up = (GivenUp(desired.revision, words),) if words else ()
    observed = _with_faults(observed, {desired.revision: words}) if words else observed
    split = canary.split(desired, observed, now)
    if split is None:
        plan = _step(desired, observed, now, in_flight)
    else:
        old = _step(split.old.desired, split.old.observed, now, in_flight)
        takes_one = old.step is Step.ROLLED_OUT and any(r.name in old.delete for r in observed.ready)
        if takes_one and not rollout.may_miss_one(desired, observed):
            old = Plan()  # a canary before this one waits until the new one is there
        new = _step(split.new.desired, split.new.observed, now, in_flight)
        plan = _together(old, new, desired, observed)
    return replace(plan, give_up=give_up, forget=forget, look_again_after=look_again(desired, observed, now))


def _step(desired: Desired, observed: Observed, now: datetime, in_flight: Mapping[str, int]) -> Plan:
    """The next step towards one revision."""
    if observed.surge_refused:
        desired = replace(desired, surge=False)
    target = rollout.target(desired, observed)
    delete, step, because = _deletions(desired, target, observed, now, in_flight)
    create = _creations(desired, target, observed, frozenset(delete))
    if create and not delete:
        step, because = _why_created(desired, target, create)
    return Plan(create, delete, step=step, because=because)


def _together(old: Plan, new: Plan, desired: Desired, observed: Observed) -> Plan:
    """One plan for a canary and for the revision beside it."""
    leaving = {*old.delete, *new.delete}
    room = desired.replicas - sum(r.name not in leaving for r in observed.staying)
    made = (*old.create, *new.create)
    create = tuple(replace(each, beside=index >= room) for index, each in enumerate(made))
    delete = (*old.delete, *new.delete)
    if old.delete and old.step is Step.SCALED_DOWN and observed.revision(desired.revision).canary:
        because = f"the canary of revision {desired.revision} takes a place"
        return Plan(create, delete, step=Step.ROLLED_OUT, because=because)
    told = new if new.changes_something else old
    return Plan(create, delete, step=told.step, because=told.because)


def _said(words: LastWords | None, desired: Desired) -> str:
    return words.sentence if words else f"not ready within {desired.start_deadline_seconds:.0f} s"


def _with_faults(observed: Observed, faults: Mapping[str, LastWords | None]) -> Observed:
    known = {r.name for r in observed.revisions}
    revisions = (*observed.revisions, *(Revision(name) for name in faults if name not in known))
    return replace(
        observed, revisions=tuple(replace(r, fault=faults[r.name]) if r.name in faults else r for r in revisions)
    )


def _forgotten(desired: Desired, observed: Observed) -> tuple[str, ...]:
    """A fault counts while its revision is wished for; asking for none is a way to have it tried again."""
    return tuple(
        r.name for r in observed.revisions if r.fault and (r.name != desired.revision or desired.asks_for_none)
    )


def _deletions(
    desired: Desired, target: Target, observed: Observed, now: datetime, in_flight: Mapping[str, int]
) -> tuple[tuple[str, ...], Step, str]:
    staying = observed.staying
    if desired.replicas == 0 and staying:
        return _names(staying), Step.SCALED_DOWN, "no replica is wanted"
    hopeless = tuple(r for r in staying if rollout.is_hopeless(r, desired, now))
    if hopeless:
        words = hopeless[0].last_words
        said = hopeless[0].lost or _said(words, desired)
        return _names(hopeless), Step.REPLACED, f"{hopeless[0].name}: {said}"
    if not target.creatable:
        # What cannot start is not left trying; what serves goes on, whatever its revision.
        stuck = tuple(r for r in staying if r.state is not ReplicaState.READY and r.revision != target.revision)
        surplus = _surplus(staying, target, desired.replicas, in_flight)
        leaving = _names((*stuck, *(r for r in surplus if r not in stuck)))
        return leaving, Step.SCALED_DOWN if leaving else Step.NOTHING, target.because if leaving else ""
    step = Step.RESTORED if target.revision != desired.revision else Step.ROLLED_OUT
    because = target.because or f"revision {target.revision} replaces it"
    useless = tuple(r for r in staying if r.revision != target.revision and r.state is not ReplicaState.READY)
    if useless:
        return _names(useless), step, because
    outdated = tuple(r for r in staying if r.revision != target.revision)
    current = tuple(r for r in staying if r.revision == target.revision)
    all_current_ready = all(r.state is ReplicaState.READY for r in current)
    is_beside = desired.makes_way and bool(outdated) and len(staying) > desired.replicas
    if is_beside and rollout.waits_too_long(current, now) and rollout.may_miss_one(desired, observed):
        oldest = rollout.first_to_go(outdated, target.revision)[0]
        return (oldest.name,), step, f"no room beside the old replicas, so one makes way: {because}"
    surging = 1 if desired.surge and outdated and not all_current_ready else 0
    surplus = _surplus(staying, target, desired.replicas + surging, in_flight)
    if surplus:
        moved = bool(outdated) and desired.surge
        return _names(surplus), step if moved else Step.SCALED_DOWN, because if moved else f"{desired.replicas} wanted"
    settled = all_current_ready and len(staying) == desired.replicas and len(staying) == len(observed.replicas)
    if outdated and not desired.surge and settled:
        return (rollout.first_to_go(outdated, target.revision, in_flight)[0].name,), step, because
    return (), Step.NOTHING, ""


def _creations(desired: Desired, target: Target, observed: Observed, leaving: frozenset[str]) -> tuple[NewReplica, ...]:
    if not target.creatable or target.revision in observed.not_now:
        return ()
    staying = [r for r in observed.staying if r.name not in leaving]
    outdated = any(r.revision != target.revision for r in staying)
    # Without surge the room of a replica that still drains is not free yet: its GPU and memory are in use.
    taken = len(staying) if desired.surge or desired.is_scheduled else len(observed.replicas)
    surging = desired.surge and outdated and not any(rollout.lacks_room(r) for r in staying)
    surging = surging and not observed.surge_waits
    room = desired.replicas + (1 if surging else 0) - taken
    if observed.may_make is not None:
        room = min(room, observed.may_make)
    names = _free_names(desired, target, observed, room)
    beside = desired.replicas - taken
    return tuple(NewReplica(name, target.revision, index >= beside) for index, name in enumerate(names))


def _why_created(desired: Desired, target: Target, create: tuple[NewReplica, ...]) -> tuple[Step, str]:
    if target.revision != desired.revision:
        return Step.RESTORED, target.because
    return Step.SCALED_UP, f"{desired.replicas} wanted, {len(create)} missing of revision {target.revision}"


def _free_names(desired: Desired, target: Target, observed: Observed, count: int) -> list[str]:
    """Deterministic, so that two operators never make two replicas for one need."""
    used = {replica.name for replica in observed.replicas} | observed.taken_names
    names: list[str] = []
    index = 0
    while len(names) < count:
        name = naming.object_name(desired.model, target.revision, str(index))
        if name not in used:
            names.append(name)
        index += 1
    return names


def _surplus(
    staying: tuple[Replica, ...], target: Target, wanted: int, in_flight: Mapping[str, int]
) -> tuple[Replica, ...]:
    return tuple(rollout.first_to_go(staying, target.revision, in_flight)[: max(0, len(staying) - wanted)])


def _names(replicas: tuple[Replica, ...]) -> tuple[str, ...]:
    return tuple(replica.name for replica in replicas)


def look_again(desired: Desired, observed: Observed, now: datetime) -> float | None:
    """When time alone may ask for another plan: at the deadlines of those that start, of those that wait for room, of a
    revision that was never ready."""
    starting = observed.in_state(ReplicaState.STARTING)
    left = [
        rollout.ROOM_SECONDS - (now - r.hindrance.since).total_seconds()
        for r in starting
        if desired.makes_way and r.hindrance and rollout.lacks_room(r)
    ]
    left = [seconds for seconds in left if seconds > 0]
    left += [desired.start_deadline_seconds - (now - r.since).total_seconds() for r in starting if r.hindrance is None]
    times = [observed.changes_at, rollout.has_time_until(desired, observed)]
    left += [(at - now).total_seconds() for at in times if at is not None]
    return max(0.0, min(left)) if left else None
