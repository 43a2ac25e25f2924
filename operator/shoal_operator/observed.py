"""What is there: the facts about one model's replicas and revisions, the same from a cluster and from one machine."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from shoal_api.conditions import Reason
from shoal_api.termination import LastWords

NOT_ANSWERING = "NotAnswering"
"""The stage of a replica that was ready and is not any more, though it has not ended."""


class ReplicaState(StrEnum):
    """Where one replica is."""

    STARTING = "Starting"
    """It runs and does not answer yet, or not any more."""
    READY = "Ready"
    DRAINING = "Draining"
    """It was told to go and finishes what runs."""
    FAILED = "Failed"
    """It ended by itself; its supervisor starts it again after a pause, unless its last words say that cannot help."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a replica is reached."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Hindrance:
    """What a starting replica waits for from outside: a node with room, an image, a Secret."""

    reason: Reason
    sentence: str
    since: datetime
    needs_room: bool = False
    """An older replica that makes way might help."""


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica as it is now."""

    name: str
    uid: str
    revision: str
    state: ReplicaState
    since: datetime
    """When it came into this state; for Starting, when its process began or it stopped answering."""
    created: datetime
    stage: str = ""
    """How far a starting replica is, in its own words (shoal_api.replica_config.Stage), or NOT_ANSWERING."""
    restarts: int = 0
    last_words: LastWords | None = None
    """Why it ended the last time."""
    endpoint: Endpoint | None = None
    hindrance: Hindrance | None = None
    lost: str = ""
    """Why it can never be whole again, such as a pod of the gang that is gone; then it makes way for another."""


@dataclass(frozen=True, slots=True)
class Revision:
    """What is known about one revision of a model."""

    name: str
    proven: bool = False
    """A replica of it has been ready."""
    fault: LastWords | None = None
    """Why it is not tried any more."""
    canary: bool = False
    """It takes over only when its owner promotes it."""


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything a decision about one model sees."""

    replicas: tuple[Replica, ...] = ()
    revisions: tuple[Revision, ...] = ()
    """Oldest first."""
    obstacle: LastWords | None = None
    """What is known beforehand to stop a replica of the desired revision, such as a folder that is missing."""
    may_make: int | None = None
    """So many new replicas at most, where others wait for the same nodes."""
    held: Hindrance | None = None
    """Why no new replica may be made now."""
    not_now: frozenset[str] = frozenset()
    """Revisions of which no replica is made just now, because one was refused."""
    tried_since: datetime | None = None
    """Since when replicas of the desired revision are made and let go again, though none of them may be there now."""
    changes_at: datetime | None = None
    """When these facts are others even if nothing happens."""
    surge_waits: str = ""
    """Why no new replica may stand beside the old ones just now, though one may later."""
    surge_refused: str = ""
    """Why none may until an old one has gone."""
    taken_names: frozenset[str] = frozenset()
    """Names that no new replica can have, because something that is no replica of the model has them."""

    def revision(self, name: str) -> Revision:
        """What is known about the revision; one never seen is neither proven nor at fault."""
        return next((revision for revision in self.revisions if revision.name == name), Revision(name))

    def in_state(self, *states: ReplicaState) -> tuple[Replica, ...]:
        return tuple(replica for replica in self.replicas if replica.state in states)

    @property
    def ready(self) -> tuple[Replica, ...]:
        return self.in_state(ReplicaState.READY)

    @property
    def staying(self) -> tuple[Replica, ...]:
        """Those that were not told to go."""
        return tuple(replica for replica in self.replicas if replica.state is not ReplicaState.DRAINING)
