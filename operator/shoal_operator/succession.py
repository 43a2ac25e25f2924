"""What stands in the way of a new revision on a cluster: refusals, quotas, turns, and what a look beforehand finds."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from shoal_api import labels, naming
from shoal_api.modeldeployment import ModelDeployment
from shoal_api.rollout import RolloutStrategy
from shoal_api.termination import LastWords
from shoal_operator import ganging, kinds, pod_facts, pods, preflight, surging
from shoal_operator.kinds import Manifest
from shoal_operator.refusals import Refusal, Refusals
from shoal_operator.surging import Manner, Surge, Turns
from shoal_operator.trying_out import AskingDoor, TryingOut

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a plan has to know about it."""

    obstacle: LastWords | None = None
    waits: str = ""
    """Why no replica may be made beside the old ones just now."""
    refused: str = ""
    """Why none may until an old one has gone."""
    may_make: int | None = None
    not_now: frozenset[str] = frozenset()
    """Revisions of which none may be made just now."""
    changes_at: tuple[datetime, ...] = ()


class Succession:
    """One for all models; everything but pauses and turns is read anew."""

    def __init__(self, door: AskingDoor, clock: Callable[[], datetime], surge_class: str) -> None:
        self._clock = clock
        self._surge_class = surge_class
        self._trying_out = TryingOut(door, clock)
        self._turns = Turns()
        self._refusals = Refusals()

    def manner(self, md: ModelDeployment, record: Manifest | None) -> Manner:
        """How replicas of the revision with this record replace others."""
        own_class = md.spec.scheduling.priority_class_name
        if record is not None:
            own_class = record["data"]["template"]["spec"].get("priorityClassName", "")
        return surging.manner(md.spec.rollout.strategy, own_class, self._surge_class, self._trying_out.classes)

    async def look(self, md: ModelDeployment, record: Manifest | None, its_pods: Sequence[Manifest]) -> None:
        """Learn what may push whom out; and, before one that serves or starts goes for a revision that never worked,
        what that one lacks."""
        await self._trying_out.read_classes()
        if record is None or kinds.annotation(record, labels.PROVEN) or kinds.annotation(record, labels.FAULT):
            return
        uid, revision, now = md.metadata.uid, kinds.revision(record), self._clock()
        if any(refusal.revision == revision for refusal in self._in_force(md, its_pods, now)):
            return
        name = naming.object_name(md.metadata.name, revision, "preflight")
        new = pods.pods(md, name, 0, revision, record["data"]["template"])
        old = preflight.one_of_each_replica(its_pods, revision)
        sentence = await self._trying_out.objections(uid, revision, new, old)
        if sentence:
            self._refusals.foresee(uid, revision, sentence, now)
            log.info('model=%s reason=Preflight because="%s"', md.id, sentence)

    async def learn_classes(self) -> None:
        """Learn what may push whom out, and nothing else."""
        await self._trying_out.read_classes()

    def circumstances(
        self,
        md: ModelDeployment,
        revision: str,
        its_pods: Sequence[Manifest],
        waits: str,
        now: datetime,
    ) -> Circumstances:
        """What is so now; `waits` is what `wait_for_turn` said."""
        look = (now + timedelta(seconds=surging.LOOK_SECONDS),) if waits else ()
        refusals = self._in_force(md, its_pods, now)
        by_waiting = [refusal for refusal in refusals if _goes_by_waiting(md, revision, its_pods, refusal)]
        firm = {refusal.revision: refusal.words for refusal in refusals if refusal not in by_waiting}
        return Circumstances(
            obstacle=firm.get(revision),
            waits=waits,
            refused=next((refusal.words.sentence for refusal in by_waiting), ""),
            may_make=0 if by_waiting else None,
            not_now=frozenset(firm),
            changes_at=(*look, *(refusal.until for refusal in refusals)),
        )

    def _in_force(self, md: ModelDeployment, its_pods: Sequence[Manifest], now: datetime) -> list[Refusal]:
        """What was refused a moment ago; one pod fewer may change a quota's mind."""
        refusals = self._refusals.of(md.metadata.uid, now)
        return [refusal for refusal in refusals if refusal.pods is None or len(its_pods) >= refusal.pods]

    def wait_for_turn(self, md: ModelDeployment, seen: Iterable[Surge | None], now: datetime, *, claims: bool) -> str:
        """Why this model makes no replica beside its old ones; where it may and `claims`, the turn is its own."""
        pool = ganging.pool(md)
        other = surging.rival(md.id, pool, self._turns.known([s for s in seen if s is not None], now), now)
        if other is not None:
            return surging.waits_for(other)
        if claims:
            self._turns.claim(md.id, pool, now)
        return ""

    def needs_no_turn(self, md: ModelDeployment) -> None:
        """It has nothing beside anything."""
        self._turns.give_back(md.id)

    def was_refused(self, md: ModelDeployment, revision: str, sentence: str, message: str, pod_count: int) -> None:
        """The API server refused a pod; of a quota it counts how many pods there were."""
        counted = pod_count if preflight.is_quota(message) else None
        self._refusals.note(md.metadata.uid, revision, sentence, self._clock(), pods=counted)

    def was_made(self, uid: str, revision: str) -> None:
        """A replica of this revision: it is refused no more."""
        self._refusals.was_made(uid, revision)

    def forget(self, uid: str) -> None:
        """The model is gone."""
        self._refusals.forget(uid)
        self._trying_out.forget(uid)


def _goes_by_waiting(md: ModelDeployment, revision: str, its_pods: Sequence[Manifest], refusal: Refusal) -> bool:
    """Whether a quota refused what an old replica's going can heal: there was one then, and it goes or may go."""
    if not refusal.pods or md.spec.rollout.strategy is RolloutStrategy.SURGE:
        return False
    return pod_facts.is_rolling(its_pods, revision) or any(kinds.is_leaving(pod) for pod in its_pods)
