"""Decide how many replicas a canary and the revision beside it have, until its owner promotes it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from shoal_api import labels
from shoal_api.modeldeployment import ModelDeployment
from shoal_operator import rollout
from shoal_operator.observed import Observed, ReplicaState, Revision
from shoal_operator.rollout import Desired


@dataclass(frozen=True, slots=True)
class Part:
    """One of the two revisions, as if it were the whole model."""

    desired: Desired
    observed: Observed


@dataclass(frozen=True, slots=True)
class Split:
    """A model of which two revisions are wanted."""

    old: Part
    new: Part


def begins(md: ModelDeployment, revisions: Sequence[Revision]) -> bool:
    """Whether a revision that is seen for the first time begins as a canary: there is one that worked to compare."""
    return md.spec.rollout.canary is not None and any(known.proven for known in revisions)


def is_over(md: ModelDeployment, revision: str) -> bool:
    """Whether its owner lets it take over."""
    return md.spec.rollout.canary is None or md.metadata.annotations.get(labels.PROMOTED) == revision


def counts(desired: Desired) -> tuple[int, int]:
    """In the end so many canaries, and so many replicas beside them: at least one, or nothing could be compared."""
    canaries = min(desired.canaries, max(1, desired.replicas - 1))
    return canaries, max(1, desired.replicas - canaries)


def base(desired: Desired, observed: Observed) -> str | None:
    """The revision that a canary stands beside: the newest other one that worked and is no canary itself."""
    worked = [
        known.name
        for known in observed.revisions
        if known.proven and not known.canary and known.fault is None and known.name != desired.revision
    ]
    return worked[-1] if worked else None


def is_waited_for(desired: Desired, observed: Observed) -> bool:
    """Whether the desired revision is a canary, wanted and not known to be bad."""
    return (
        desired.canaries > 0
        and desired.replicas > 0
        and observed.revision(desired.revision).canary
        and rollout.obstacle(desired, observed) is None
        and base(desired, observed) is not None
    )


def is_up(desired: Desired, observed: Observed) -> bool:
    """Whether every canary answers and nothing else is under way, so that only its owner's word is missing."""
    canaries, others = counts(desired)
    of_it = [r for r in observed.replicas if r.revision == desired.revision]
    beside = [r for r in observed.replicas if r.revision != desired.revision]
    return (
        len(of_it) == canaries
        and len(beside) == others
        and all(r.state is ReplicaState.READY for r in observed.replicas)
    )


def split(desired: Desired, observed: Observed, now: datetime) -> Split | None:
    """What is wanted of each of the two revisions just now; None where one takes over as usual.

    One canary after the other, and never fewer ready replicas than a rollout of this manner has.
    """
    beside = base(desired, observed)
    if beside is None or not is_waited_for(desired, observed):
        return None
    canaries, others = counts(desired)
    of_it = tuple(r for r in observed.replicas if r.revision == desired.revision)
    of_others = tuple(r for r in observed.replicas if r.revision != desired.revision)
    staying = [r for r in of_it if r.state is not ReplicaState.DRAINING]
    ready = sum(r.state is ReplicaState.READY for r in staying)
    wanted = max(min(ready + 1, canaries), min(len(staying), canaries))
    surges = desired.surge and not (desired.makes_way and rollout.waits_too_long(staying, now))
    old = max(others, desired.replicas - (ready if surges else wanted))
    stays = sum(r.state is not ReplicaState.DRAINING for r in of_others)
    is_beside = stays + wanted > desired.replicas
    refused = is_beside and bool(observed.surge_waits or observed.surge_refused)
    unscheduled = not desired.surge and not desired.is_scheduled
    must_wait = refused or (unscheduled and (stays > old or stays < len(of_others)))
    new_observed = replace(observed, replicas=of_it, may_make=0 if must_wait else observed.may_make)
    return Split(
        old=Part(
            replace(desired, revision=beside, replicas=old, canaries=0),
            replace(observed, replicas=of_others, obstacle=None),
        ),
        new=Part(replace(desired, replicas=wanted, canaries=0), new_observed),
    )
