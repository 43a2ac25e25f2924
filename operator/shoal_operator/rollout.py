"""Decide which revision is wanted, and which replica goes first."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from shoal_api.modeldeployment import RolloutStrategy
from shoal_api.termination import LastWords
from shoal_operator.observed import Observed, Replica, ReplicaState

NOTHING_KNOWN: Mapping[str, int] = MappingProxyType({})


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


@dataclass(frozen=True, slots=True)
class Target:
    """The revision that replicas are to be of, and whether new ones of it may be made."""

    revision: str
    creatable: bool
    because: str = ""


def may_surge(strategy: RolloutStrategy, auto: RolloutStrategy) -> bool:
    """Whether a new replica may stand beside the old ones; `auto` is what the place at hand prefers."""
    return (auto if strategy is RolloutStrategy.AUTO else strategy) is RolloutStrategy.SURGE


def obstacle(desired: Desired, observed: Observed) -> LastWords | None:
    """Why no new replica of the desired revision is made; None where nothing is known against it."""
    return observed.revision(desired.revision).fault or observed.obstacle


def target(desired: Desired, observed: Observed) -> Target:
    """The desired revision; while that cannot start and never did, the last one that worked."""
    against = obstacle(desired, observed)
    if against is None:
        return Target(desired.revision, creatable=True)
    if observed.revision(desired.revision).proven:
        return Target(desired.revision, creatable=False, because=against.sentence)
    proven = [r.name for r in observed.revisions if r.proven and r.name != desired.revision and r.fault is None]
    if proven:
        return Target(proven[-1], creatable=True, because=against.sentence)
    return Target(desired.revision, creatable=False, because=against.sentence)


def given_up(desired: Desired, observed: Observed, now: datetime) -> LastWords | None:
    """The sentence of a desired revision that had its time and never became ready, where an older one can be restored.

    Without an older one there is nothing to lose: it is tried on.
    """
    known = observed.revision(desired.revision)
    if known.proven or known.fault is not None:
        return None
    if not any(r.proven and r.name != desired.revision and r.fault is None for r in observed.revisions):
        return None
    late = [
        r
        for r in observed.staying
        if r.revision == desired.revision and (now - r.created).total_seconds() >= desired.start_deadline_seconds
    ]
    if not late:
        return None
    said = next((f": {r.last_words.sentence}" for r in late if r.last_words), "")
    sentence = f"revision {desired.revision} was not ready within {desired.start_deadline_seconds:.0f} s{said}"
    return LastWords(sentence, permanent=False)


def is_hopeless(replica: Replica, desired: Desired, now: datetime) -> bool:
    """Whether waiting for this replica is over: it said so itself, or it hangs while starting."""
    if replica.state is ReplicaState.FAILED:
        return replica.last_words is not None and replica.last_words.permanent
    waited = (now - replica.since).total_seconds()
    return replica.state is ReplicaState.STARTING and waited >= desired.start_deadline_seconds


def first_to_go(
    replicas: tuple[Replica, ...], revision: str, in_flight: Mapping[str, int] = NOTHING_KNOWN
) -> list[Replica]:
    """The replicas in the order in which they may be missed: unready, of another revision, least loaded, youngest."""
    oldest_last = sorted(replicas, key=lambda r: (r.created, r.name), reverse=True)
    return sorted(
        oldest_last, key=lambda r: (r.state is ReplicaState.READY, r.revision == revision, in_flight.get(r.name, 0))
    )
