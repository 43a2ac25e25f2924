"""Decide which revision is wanted, and which replica goes first."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from shoal_api.termination import LastWords
from shoal_operator.observed import Observed, Replica, ReplicaState

NOTHING_KNOWN: Mapping[str, int] = MappingProxyType({})
ROOM_SECONDS = 10.0
"""So long a surging replica waits for room, before an old one makes way for it."""


@dataclass(frozen=True, slots=True)
class Desired:
    """The computed wish for one model."""

    model: str
    """The ModelDeployment's own name; replicas are named after it."""
    revision: str
    replicas: int
    surge: bool = False
    """A new replica may come up beside the old ones; else an old one makes room first."""
    start_deadline_seconds: float = 1800
    makes_way: bool = False
    """Where a surging replica finds no room, an old one goes first after all."""
    is_scheduled: bool = False
    """A scheduler keeps count of room: a replica may be made while the one before it still drains."""
    canaries: int = 0
    """A revision that nobody has promoted yet has so many replicas at most; 0: there is no such thing."""
    first_goes_because: str = ""
    """Why an old replica goes first, where the manifest left that open."""
    asks_for_none: bool = False
    """The manifest itself asks for no replica; that nobody needs one just now is no such wish."""


@dataclass(frozen=True, slots=True)
class Target:
    """The revision that replicas are to be of, and whether new ones of it may be made."""

    revision: str
    creatable: bool
    because: str = ""


def obstacle(desired: Desired, observed: Observed) -> LastWords | None:
    """Why no new replica of the desired revision is made; None where nothing is known against it."""
    return observed.revision(desired.revision).fault or observed.obstacle


def lacks_room(replica: Replica) -> bool:
    """Whether it starts as soon as another one makes way."""
    return replica.hindrance is not None and replica.hindrance.needs_room


def waits_too_long(replicas: Iterable[Replica], now: datetime) -> bool:
    """Whether one of them has waited for room for so long that an old one makes way."""
    waiting = [r.hindrance for r in replicas if r.hindrance and lacks_room(r)]
    return any((now - hindrance.since).total_seconds() >= ROOM_SECONDS for hindrance in waiting)


def may_miss_one(desired: Desired, observed: Observed) -> bool:
    """Whether a rollout may take a ready replica away: afterwards at most one of those wanted is missing.

    Of a single replica that one is all there is; requests wait for the next.
    """
    return len(observed.ready) >= desired.replicas


def target(desired: Desired, observed: Observed) -> Target:
    """The desired revision; while that cannot start and never did, the last one that worked."""
    against = obstacle(desired, observed)
    if against is None:
        return Target(desired.revision, creatable=True)
    known = observed.revision(desired.revision)
    is_on_its_way = known.fault is None and any(r.revision == desired.revision for r in observed.staying)
    if not known.canary and (known.proven or is_on_its_way):
        return Target(desired.revision, creatable=False, because=against.sentence)
    others = _restorable(desired, observed)
    if others:
        return Target(others[-1], creatable=True, because=against.sentence)
    return Target(desired.revision, creatable=False, because=against.sentence)


def _restorable(desired: Desired, observed: Observed) -> list[str]:
    """The other revisions that worked and are no canaries, the newest last."""
    others = [r for r in observed.revisions if r.proven and r.name != desired.revision and r.fault is None]
    return [r.name for r in others if not r.canary]


def given_up(desired: Desired, observed: Observed, now: datetime) -> LastWords | None:
    """Why the desired revision is tried no more: a replica of it said so, or it had its time and never became ready."""
    if observed.revision(desired.revision).fault is not None:
        return None
    gave_up = next((r for r in observed.staying if r.revision == desired.revision and _gave_up(r)), None)
    if gave_up is not None:
        return gave_up.last_words
    until = has_time_until(desired, observed)
    if until is None or now < until:
        return None
    tried = _tried(desired, observed)
    said = next((f": {r.last_words.sentence}" for r in tried if r.last_words), "")
    said = said or next((f": {r.hindrance.sentence}" for r in tried if r.hindrance), "")
    sentence = f"revision {desired.revision} was not ready within {desired.start_deadline_seconds:.0f} s{said}"
    return LastWords(sentence, permanent=False)


def has_time_until(desired: Desired, observed: Observed) -> datetime | None:
    """When the desired revision, which was never ready, has had its time.

    Only where an older one can be restored. Without one there is nothing to lose: it is tried on.
    """
    known = observed.revision(desired.revision)
    is_tried = desired.replicas > 0 and not known.proven and known.fault is None
    works = any(r.revision == desired.revision for r in observed.ready)  # its record is about to say so
    if not is_tried or works or not _restorable(desired, observed):
        return None
    before = [observed.tried_since] if observed.tried_since else []
    began = min([*before, *(r.created for r in _tried(desired, observed))], default=None)
    return None if began is None else began + timedelta(seconds=desired.start_deadline_seconds)


def _tried(desired: Desired, observed: Observed) -> list[Replica]:
    """The replicas of the desired revision that are to become ready."""
    return [r for r in observed.staying if r.revision == desired.revision and r.state is not ReplicaState.READY]


def _gave_up(replica: Replica) -> bool:
    return replica.state is ReplicaState.FAILED and replica.last_words is not None and replica.last_words.permanent


def is_hopeless(replica: Replica, desired: Desired, now: datetime) -> bool:
    """Whether waiting for this replica is over: it said so itself, lost a part of it, or hangs while starting."""
    if replica.lost:
        return True
    if replica.state is ReplicaState.FAILED:
        return _gave_up(replica)
    waited = (now - replica.since).total_seconds()
    hangs = replica.state is ReplicaState.STARTING and waited >= desired.start_deadline_seconds
    return hangs and replica.hindrance is None  # another one would wait for the same thing


def first_to_go(
    replicas: tuple[Replica, ...], revision: str, in_flight: Mapping[str, int] = NOTHING_KNOWN
) -> list[Replica]:
    """The replicas in the order in which they may be missed: unready, of another revision, least loaded, youngest."""
    oldest_last = sorted(replicas, key=lambda r: (r.created, r.name), reverse=True)
    return sorted(
        oldest_last, key=lambda r: (r.state is ReplicaState.READY, r.revision == revision, in_flight.get(r.name, 0))
    )
