"""Decide when a gang may be tried: two that each hold half of the nodes both need would wait for each other forever."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from shoal_api.conditions import Reason
from shoal_api.modeldeployment import ModelDeployment
from shoal_operator.observed import Hindrance

SCHEDULED_WITHIN_SECONDS = 120.0
FIRST_PAUSE_SECONDS = 30.0
LONGEST_PAUSE_SECONDS = 600.0
LOOK_SECONDS = 5.0
"""So often a gang that waits for another looks whether its turn has come."""

Pool = tuple[str, tuple[tuple[str, str], ...]]
"""Nodes that gangs may take from each other: the GPU resource and the node selector."""


@dataclass(frozen=True, slots=True)
class PendingGang:
    """A gang of which not every pod has a node."""

    model: str
    replica: str
    pool: Pool
    since: datetime


@dataclass(frozen=True, slots=True)
class Release:
    """How often a model's gangs let go in a row, and until when it makes no other."""

    times: int
    until: datetime
    at: datetime
    tried_since: datetime
    """When the first gang of the row was made."""
    revision: str
    """Which one was wanted: another one is tried at once."""

    def is_in_row(self, time: datetime) -> bool:
        """Whether what is tried now goes on with what was tried before."""
        return time <= self.until + timedelta(seconds=LONGEST_PAUSE_SECONDS)


@dataclass(frozen=True, slots=True)
class Ruling:
    """What one model may do about its gangs now."""

    may_make: int
    """So many new gangs."""
    held: Hindrance | None = None
    """Why none."""
    let_go: tuple[str, ...] = ()
    """Replicas whose pods did not all find a node in time."""
    changes_at: datetime | None = None


def pool(md: ModelDeployment) -> Pool:
    """Where this model's gangs look for nodes."""
    return (md.spec.resources.gpu_resource, tuple(sorted(md.spec.scheduling.node_selector.items())))


def is_ruled(md: ModelDeployment) -> bool:
    """Whether it is on us: a scheduler of the owner's choice has ways of its own."""
    return md.spec.pods_of_a_replica > 1 and not md.spec.scheduling.scheduler_name


def rule(md: ModelDeployment, pending: Sequence[PendingGang], release: Release | None, now: datetime) -> Ruling:
    """At most one gang looks for nodes in a pool; the one that looks for too long lets another try."""
    own = [gang for gang in pending if gang.model == md.id]
    let_go = tuple(gang.replica for gang in own if _deadline(gang) <= now)
    times = [_deadline(gang) for gang in own if gang.replica not in let_go]
    if release is not None and now < release.until:
        again = f"{release.until:%H:%M:%S} UTC"
        because = f"{_times(release.times)} its pods did not all find a node, so it tries again at {again}"
        return Ruling(0, _held(because, now), let_go, min([release.until, *times]))
    rivals = sorted(
        (gang for gang in pending if gang.pool == pool(md) and gang.replica not in let_go),
        key=lambda gang: (gang.since, gang.model, gang.replica),
    )
    # Two that were made at once by mistake: the younger one lets go.
    let_go += tuple(gang.replica for gang in rivals[1:] if gang.model == md.id)
    if rivals:
        because = f"the pods of {rivals[0].replica} ({rivals[0].model}) look for nodes of the same kind first"
        return Ruling(0, _held(because, now), let_go, min([now + timedelta(seconds=LOOK_SECONDS), *times]))
    if let_go:
        return Ruling(0, _held(sentence(let_go[0]), now), let_go, min(times, default=None))
    return Ruling(1, None, (), min(times, default=None))


def after_release(before: Release | None, made: datetime, revision: str, now: datetime) -> Release:
    """The pause after a gang let go that was made then; it doubles."""
    if before is not None and (before.revision != revision or not before.is_in_row(made)):
        before = None
    times = before.times if before else 0
    pause = min(FIRST_PAUSE_SECONDS * 2.0 ** min(times, 20), LONGEST_PAUSE_SECONDS)
    tried_since = before.tried_since if before else made
    return Release(times + 1, now + timedelta(seconds=pause), now, tried_since, revision)


def sentence(replica: str) -> str:
    """Why a gang lets go."""
    return f"not every pod of {replica} found a node in time, so it lets go of those that it has"


def _deadline(gang: PendingGang) -> datetime:
    return gang.since + timedelta(seconds=SCHEDULED_WITHIN_SECONDS)


def _held(because: str, now: datetime) -> Hindrance:
    return Hindrance(Reason.UNSCHEDULABLE, because, now)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times in a row"
