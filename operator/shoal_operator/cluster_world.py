"""The world on Kubernetes: replicas as pods, made and drained through the cluster's door, seen through its watches."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from shoal_api import labels, naming
from shoal_api.modeldeployment import ModelDeployment, RolloutStrategy
from shoal_operator import (
    canary,
    ganging,
    kinds,
    objects,
    pod_facts,
    pods,
    preflight,
    rendering,
    surging,
    upkeep,
)
from shoal_operator.api_faults import ApiFault, Foreign, TryAgain
from shoal_operator.complaints import Complaints
from shoal_operator.ganging import Release, Ruling
from shoal_operator.installation import Installation
from shoal_operator.kinds import POD, REVISION, SECRET, SERVICE, SERVICE_ACCOUNT, Kind, Listing, Manifest
from shoal_operator.observed import Observed
from shoal_operator.planning import NewReplica, Plan
from shoal_operator.pod_facts import Beside
from shoal_operator.refusals import Refusal, Refusals
from shoal_operator.store import Store
from shoal_operator.surging import Manner, Turns
from shoal_operator.trying_out import TryingOut

log = logging.getLogger(__name__)

STARTING_GRACE_SECONDS = 10


class Door(Protocol):
    """What the world needs of the Kubernetes API; `cluster.Cluster` tells what each does."""

    async def find_all(self, kind: Kind, namespace: str | None, selector: str = "", fields: str = "") -> Listing: ...
    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None: ...
    async def create(self, kind: Kind, manifest: Manifest) -> Manifest: ...
    async def rehearse(self, kind: Kind, manifest: Manifest) -> None: ...
    async def apply(self, kind: Kind, manifest: Manifest, subresource: str = "") -> Manifest: ...
    async def replace(self, kind: Kind, manifest: Manifest) -> Manifest: ...
    async def patch(self, kind: Kind, namespace: str, name: str, change: Manifest) -> Manifest: ...
    async def delete(
        self, kind: Kind, namespace: str, name: str, uid: str, grace_seconds: int | None = None
    ) -> None: ...


class ClusterWorld:
    """Implements reconciling.World. What is changed is known here before the watches tell it."""

    is_scheduled = True

    def __init__(
        self,
        door: Door,
        store: Store,
        installation: Installation,
        master_key: bytes,
        clock: Callable[[], datetime],
    ) -> None:
        self._door = door
        self._store = store
        self._installation = installation
        self._master_key = master_key
        self._clock = clock
        self._complaints = Complaints(door, clock)
        self._trying_out = TryingOut(door, clock)
        self._turns = Turns()
        self._refusals = Refusals()
        self._releases: dict[str, Release] = {}
        self._occupied: dict[str, frozenset[str]] = {}

    async def tend(self, md: ModelDeployment, revision: str) -> None:
        """See to it that everything around the replicas is there: Service, account, the record of the revision.

        Raises Foreign where something else has the name of one of them.
        """
        uid, namespace = md.metadata.uid, md.metadata.namespace
        gang = objects.gang_service(md)
        account = objects.service_account(md, self._master_key)
        wished = [objects.service(md), account, *([gang] if gang else [])]
        found = [*self._of(SERVICE, uid), *self._of(SERVICE_ACCOUNT, uid)]
        for manifest in upkeep.to_apply(wished, found):
            kind = kinds.of(manifest)
            if manifest is account:
                # The Secret first: the account says that it is written.
                await self._apply_own(SECRET, objects.secret(md, self._master_key), uid, is_known=False)
            await self._apply_own(kind, manifest, uid, is_known=_has(found, manifest))
        await self._record(md, revision)
        for record in self._of(REVISION, uid):
            is_canary = kinds.revision(record) == revision and kinds.annotation(record, labels.CANARY)
            if is_canary and canary.is_over(md, revision):
                await self._annotate(record, labels.CANARY, None)
        records, its_pods = self._of(REVISION, uid), self._of(POD, uid)
        for proven in pod_facts.newly_proven(its_pods, records):
            await self._annotate(proven, labels.PROVEN, "true")
        for record in upkeep.forgotten(records, its_pods, revision):
            await self._door.delete(REVISION, namespace, kinds.name(record), kinds.uid(record))
            self._store.lost(REVISION, record)

    def manner(self, md: ModelDeployment, revision: str) -> Manner:
        records = self._of(REVISION, md.metadata.uid)
        template = next((r["data"]["template"] for r in records if kinds.revision(r) == revision), None)
        own_class = (
            template["spec"].get("priorityClassName", "") if template else md.spec.scheduling.priority_class_name
        )
        surge_class = self._installation.surge_priority_class
        return surging.manner(md.spec.rollout.strategy, own_class, surge_class, self._trying_out.classes)

    async def observe(self, md: ModelDeployment, revision: str, *, fresh: bool) -> Observed:
        uid = md.metadata.uid
        if fresh:
            selector = f"{labels.MODEL_UID}={uid}"
            for kind in (POD, REVISION):
                listing = await self._door.find_all(kind, md.metadata.namespace, selector)
                self._store.replace(kind, listing.objects, listing.version, uid)
        its_pods = self._of(POD, uid)
        await self._complaints.listen(its_pods)
        if pod_facts.is_rolling(its_pods, revision):
            await self._trying_out.read_classes()
            if fresh:
                await self._try_out(md, revision, its_pods)
        now = self._clock()
        refusal = self._refusals.of(uid, now)
        ruling = self._ruling(md, now)
        crowding = self._crowding(md, revision, its_pods, refusal)
        waits = self._waits_for_turn(md, revision, its_pods, now, claims=fresh)
        look = now + timedelta(seconds=surging.LOOK_SECONDS) if waits else None
        times = (refusal.until if refusal else None, ruling.changes_at if ruling else None, look)
        is_obstacle = refusal is not None and refusal.revision == revision and not crowding
        may_make = ruling.may_make if ruling else None
        if refusal and crowding and len(its_pods) >= (refusal.pods or 0):
            may_make = 0
        beside = Beside(
            obstacle=refusal.words if refusal and is_obstacle else None,
            taken_names=self._store.names_taken(POD, md) | self._occupied.get(uid, frozenset()),
            mount_words=self._complaints.mount_words(),
            largest_gpus=self._complaints.largest_gpus(),
            let_go=ruling.let_go if ruling else (),
            may_make=may_make,
            held=ruling.held if ruling else None,
            surge_waits=waits,
            surge_refused=crowding,
            changes_at=(*self._complaints.asks_at(its_pods), *(time for time in times if time is not None)),
        )
        return pod_facts.observed(its_pods, self._of(REVISION, uid), beside, now)

    async def carry_out(self, md: ModelDeployment, plan: Plan, now: datetime) -> None:
        uid = md.metadata.uid
        records = {kinds.label(record, labels.REVISION): record for record in self._of(REVISION, uid)}
        for name in plan.forget:
            await self._annotate(records[name], labels.FAULT, None)
        for given_up in plan.give_up:
            await self._annotate(records[given_up.revision], labels.FAULT, given_up.words.to_text())
        ruling = self._ruling(md, now)
        if ruling and set(ruling.let_go) & set(plan.delete):
            self._releases[uid] = ganging.after_release(self._releases.get(uid), now)
        for pod in self._of(POD, uid):
            if kinds.label(pod, labels.REPLICA) in plan.delete and not kinds.is_leaving(pod):
                await self._delete(pod)
        if plan.create:
            await self._apply_own(SECRET, objects.secret(md, self._master_key), uid, is_known=False)
            self._occupied.pop(uid, None)
            for new in plan.create:
                if not await self._create(md, new, records[new.revision]["data"]["template"]):
                    return
            self._refusals.forget(uid)

    def forget(self, uid: str) -> None:
        """The model is gone."""
        self._refusals.forget(uid)
        self._trying_out.forget(uid)
        self._releases.pop(uid, None)
        self._occupied.pop(uid, None)
        self._complaints.forget(self._store.made(POD, uid))

    def _ruling(self, md: ModelDeployment, now: datetime) -> Ruling | None:
        """What this model may do about gangs, given all that look for nodes; None where that is not on us."""
        if not ganging.is_ruled(md):
            return None
        models = [wish.md for wish in self._store.wishes() if wish.md is not None and ganging.is_ruled(wish.md)]
        pending = [
            gang for other in models for gang in pod_facts.pending_gangs(other, self._of(POD, other.metadata.uid))
        ]
        stays = any(not kinds.is_leaving(pod) for pod in self._of(POD, md.metadata.uid))
        if stays and not any(gang.model == md.id for gang in pending):
            self._releases.pop(md.metadata.uid, None)
        return ganging.rule(md, pending, self._releases.get(md.metadata.uid), now)

    def _of(self, kind: Kind, uid: str) -> list[Manifest]:
        """Only what we made: a label that somebody else put on is no proof."""
        return [manifest for manifest in self._store.made(kind, uid) if kinds.is_owned_by(manifest, uid)]

    def _crowding(self, md: ModelDeployment, revision: str, its_pods: list[Manifest], refusal: Refusal | None) -> str:
        """The refusal of a quota that an old replica's going can heal."""
        if refusal is None or refusal.pods is None or md.spec.rollout.strategy is RolloutStrategy.SURGE:
            return ""
        goes = any(kinds.is_leaving(pod) for pod in its_pods)
        return refusal.words.sentence if goes or pod_facts.is_rolling(its_pods, revision) else ""

    def _waits_for_turn(
        self, md: ModelDeployment, revision: str, its_pods: list[Manifest], now: datetime, *, claims: bool
    ) -> str:
        """Why this model makes no replica beside its old ones now; where it may, the turn is its own from here on."""
        is_rolling = pod_facts.is_rolling(its_pods, revision)
        if not (md.spec.resources.gpu and is_rolling and self.manner(md, revision).surge):
            self._turns.give_back(md.id)
            return ""
        others = [wish.md for wish in self._store.wishes() if wish.md is not None]
        seen = [pod_facts.surge(other, self._of(POD, other.metadata.uid)) for other in others]
        pool = ganging.pool(md)
        other = surging.rival(md.id, pool, self._turns.known([s for s in seen if s is not None], now), now)
        if other is not None:
            return surging.waits_for(other)
        if claims:
            self._turns.claim(md.id, pool, now)
        return ""

    async def _try_out(self, md: ModelDeployment, revision: str, its_pods: list[Manifest]) -> None:
        """Before one that serves goes for a revision that never worked: look at what can be looked at without a GPU."""
        uid, now = md.metadata.uid, self._clock()
        record = next((r for r in self._of(REVISION, uid) if kinds.revision(r) == revision), None)
        if record is None or kinds.annotation(record, labels.PROVEN) or kinds.annotation(record, labels.FAULT):
            return
        if self._refusals.of(uid, now) is not None or not pod_facts.is_served_by_another(its_pods, revision):
            return
        name = naming.object_name(md.metadata.name, revision, "preflight")
        new = pods.pods(md, name, 0, revision, record["data"]["template"])
        old = preflight.one_of_each_replica(its_pods, revision)
        sentence = await self._trying_out.objections(uid, revision, new, old)
        if sentence:
            self._refusals.foresee(uid, revision, sentence, now)
            log.info('model=%s reason=Preflight because="%s"', md.id, sentence)

    async def _record(self, md: ModelDeployment, revision: str) -> None:
        """Keep the revision as it is rendered when it is first seen, as the newest wish."""
        uid = md.metadata.uid
        records = self._of(REVISION, uid)
        number = upkeep.next_number(records, revision)
        if number is None:
            return
        known = next((record for record in records if kinds.label(record, labels.REVISION) == revision), None)
        if known is not None:
            await self._rewrite(known, lambda record: record.update(revision=number))
            return
        template, made_from = pods.template(md, self._installation), rendering.template(md)
        is_canary = canary.begins(md, pod_facts.revisions(records))
        record = objects.controller_revision(md, revision, template, number, made_from, is_canary=is_canary)
        await self._create_own(REVISION, record, uid)

    async def _annotate(self, record: Manifest, key: str, text: str | None) -> None:
        def change(found: Manifest) -> None:
            annotations = found["metadata"].setdefault("annotations", {})
            if text is None:
                annotations.pop(key, None)
            else:
                annotations[key] = text

        await self._rewrite(record, change)

    async def _rewrite(self, record: Manifest, change: Callable[[Manifest], None]) -> None:
        """Change the record of a revision. It is written whole, with its keys in the order in which they came: of any
        patch the API server says that it touches the template, which it compares byte by byte and never lets change."""
        found = await self._door.get(REVISION, kinds.namespace(record), kinds.name(record))
        if found is None or kinds.uid(found) != kinds.uid(record):
            self._store.lost(REVISION, record)
            raise TryAgain(f"the record {kinds.name(record)} went away meanwhile")
        change(found)
        self._store.saw(REVISION, await self._door.replace(REVISION, found))

    async def _delete(self, pod: Manifest) -> None:
        namespace, name = kinds.namespace(pod), kinds.name(pod)
        # The first process of a container is deaf until it has loaded its modules: told to go before, one that starts
        # would keep its GPU for the whole time that is meant for running requests.
        grace_seconds = STARTING_GRACE_SECONDS if pod_facts.serves_nobody(pod) else None
        await self._door.delete(POD, namespace, name, kinds.uid(pod), grace_seconds)
        left = await self._door.get(POD, namespace, name)
        if left is not None and kinds.uid(left) == kinds.uid(pod):
            self._store.saw(POD, left)
        else:
            self._store.lost(POD, pod)

    async def _create(self, md: ModelDeployment, new: NewReplica, template: Manifest) -> bool:
        """Make the pods of one replica; False where that was refused, and why is kept."""
        uid = md.metadata.uid
        index = int(new.name.rpartition("-")[2])
        made = pods.pods(md, new.name, index, new.revision, template)
        if new.beside:
            made = pods.beside(made, self.manner(md, new.revision).priority_class)
        try:
            for pod in made:
                await self._create_own(POD, pod, uid)
        except Foreign as foreign:
            self._occupied[uid] = self._occupied.get(uid, frozenset()) | {new.name}
            raise TryAgain(f"the name {new.name} is taken; another is chosen") from foreign
        except ApiFault as fault:
            if not fault.is_about_the_object:
                raise
            sentence = f"the cluster refuses the pod {new.name}: {fault.message}"
            there = len(self._of(POD, uid)) if preflight.is_quota(fault.message) else None
            self._refusals.note(uid, new.revision, sentence, self._clock(), pods=there)
            log.warning('model=%s reason=PodRefused because="%s"', md.id, sentence)
            return False
        return True

    async def _create_own(self, kind: Kind, manifest: Manifest, uid: str) -> None:
        """Make it where nothing has its name; what we made before and did not see yet is as good."""
        try:
            made = await self._door.create(kind, manifest)
        except ApiFault as fault:
            if not fault.is_conflict:
                raise
            there = await self._door.get(kind, kinds.namespace(manifest), kinds.name(manifest))
            if there is None or not kinds.is_owned_by(there, uid):
                raise Foreign(kind.name, kinds.name(manifest)) from fault
            made = there
        self._store.saw(kind, made)

    async def _apply_own(self, kind: Kind, manifest: Manifest, uid: str, *, is_known: bool) -> None:
        """Write it, unless something with its name is not ours."""
        if not is_known:
            there = await self._door.get(kind, kinds.namespace(manifest), kinds.name(manifest))
            if there is not None and not kinds.is_owned_by(there, uid):
                raise Foreign(kind.name, kinds.name(manifest))
        made = await self._door.apply(kind, manifest)
        if kind in kinds.MADE:
            self._store.saw(kind, made)


def _has(found: list[Manifest], manifest: Manifest) -> bool:
    return any(other["kind"] == manifest["kind"] and kinds.name(other) == kinds.name(manifest) for other in found)
