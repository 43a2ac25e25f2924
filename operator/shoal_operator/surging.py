"""Decide whether a rollout may put a new replica beside the old ones: under which class, and when its turn is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from shoal_api.rollout import RolloutStrategy
from shoal_operator.ganging import Pool

TURN_SECONDS = 300.0
"""So long a model keeps its turn without making another replica."""
CLAIM_SECONDS = 10.0
"""So long a turn is kept for a replica that is not seen yet."""
LOOK_SECONDS = 5.0
"""So often a model that waits for its turn looks again."""


@dataclass(frozen=True, slots=True)
class PriorityClass:
    """What a cluster says about one class."""

    value: int
    never_preempts: bool
    is_default: bool = False


Classes = Mapping[str, PriorityClass]


@dataclass(frozen=True, slots=True)
class Manner:
    """How a new revision takes the place of an old one."""

    surge: bool
    """A new replica comes up beside the old ones; else an old one makes room first."""
    makes_way: bool = False
    """Where it finds no room, an old one goes first after all."""
    priority_class: str = ""
    """Class of the pods that are made beside the old ones; empty: that of their template."""
    because: str = ""
    """Why an old one goes first though the manifest leaves it open."""


DELETE_FIRST = Manner(surge=False)


def manner(strategy: RolloutStrategy, own_class: str, surge_class: str, classes: Classes | None) -> Manner:
    """How to replace replicas on a cluster; `classes` is None where nobody may know them.

    A surging pod must push nobody out, and it keeps its class for life. So `Auto` surges under a class that never
    preempts: the model's own, or the installation's where that is worth what a pod without a class is.
    """
    if strategy is RolloutStrategy.DELETE_FIRST:
        return DELETE_FIRST
    against = _against(own_class, surge_class, classes)
    lent = "" if own_class or against else surge_class
    if strategy is RolloutStrategy.SURGE:
        return Manner(surge=True, priority_class=lent)
    if against:
        return Manner(surge=False, because=against)
    return Manner(surge=True, makes_way=True, priority_class=lent)


def _against(own_class: str, surge_class: str, classes: Classes | None) -> str:
    """Why a surging pod of this model might push others out, or be worth less for life."""
    if own_class:
        if classes is None:
            return f"nobody may see whether the priority class {own_class} pushes others out"
        known = classes.get(own_class)
        if known is None or not known.never_preempts:
            return f"replicas of the priority class {own_class} would push others out"
        return ""
    if not surge_class:
        return "the installation names no priority class for replicas beside the old ones"
    if classes is None:
        return ""
    known = classes.get(surge_class)
    if known is None:
        return f"there is no priority class {surge_class}"
    if not known.never_preempts:
        return f"replicas of the priority class {surge_class} would push others out"
    usual = next((other.value for other in classes.values() if other.is_default), 0)
    if known.value != usual:
        return f"replicas of the priority class {surge_class} would be worth {known.value} for life, others {usual}"
    return ""


@dataclass(frozen=True, slots=True)
class Surge:
    """A model that has, or is about to have, a new replica beside its old ones."""

    model: str
    pool: Pool
    until: datetime
    """Its turn ends then, even if its rollout does not."""


def rival(model: str, pool: Pool, surges: Sequence[Surge], now: datetime) -> Surge | None:
    """Whose turn it is in this pool, where it is another model's."""
    others = [surge for surge in surges if surge.pool == pool and surge.model != model and now < surge.until]
    return min(others, key=lambda surge: (surge.until, surge.model), default=None)


def waits_for(other: Surge) -> str:
    """Why it is not this model's turn."""
    return f"{other.model} replaces replicas on nodes of the same kind first"


class Turns:
    """Turns that were taken and are not seen yet; the others follow from the pods that are there."""

    def __init__(self) -> None:
        self._claims: dict[str, Surge] = {}

    def known(self, seen: Sequence[Surge], now: datetime) -> list[Surge]:
        """Every surge that counts."""
        self._claims = {model: claim for model, claim in self._claims.items() if now < claim.until}
        return [*seen, *self._claims.values()]

    def claim(self, model: str, pool: Pool, now: datetime) -> None:
        """Take the turn; whoever asks next finds it taken."""
        self._claims[model] = Surge(model, pool, now + timedelta(seconds=CLAIM_SECONDS))

    def give_back(self, model: str) -> None:
        """It needs no turn (any more)."""
        self._claims.pop(model, None)
