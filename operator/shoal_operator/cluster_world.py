"""The world on Kubernetes: replicas as pods, made and drained through the cluster's door, seen through its watches."""

import logging
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Protocol

from shoal_api import labels
from shoal_api.modeldeployment import ModelDeployment
from shoal_operator import (
    canary,
    ganging,
    kinds,
    objects,
    pod_facts,
    pods,
    rendering,
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
from shoal_operator.store import Store
from shoal_operator.succession import Succession
from shoal_operator.surging import Manner

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
        self._succession = Succession(door, clock, installation.surge_priority_class)
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
        return self._succession.manner(md, self._known(md.metadata.uid, revision))

    async def observe(self, md: ModelDeployment, revision: str, *, fresh: bool) -> Observed:
        uid = md.metadata.uid
        if fresh:
            selector = f"{labels.MODEL_UID}={uid}"
            for kind in (POD, REVISION):
                listing = await self._door.find_all(kind, md.metadata.namespace, selector)
                self._store.replace(kind, listing.objects, listing.version, uid)
        its_pods = self._of(POD, uid)
        await self._complaints.listen(its_pods)
        is_rolling = pod_facts.is_rolling(its_pods, revision)
        if is_rolling and fresh:
            await self._succession.look(md, self._known(uid, revision), its_pods)
        elif is_rolling:
            await self._succession.learn_classes()
        now = self._clock()
        ruling = self._ruling(md, revision, now)
        release = self._releases.get(uid)
        waits = self._waits_for_turn(md, revision, now, claims=fresh) if is_rolling else self._needs_no_turn(md)
        found = self._succession.circumstances(md, revision, its_pods, waits, now)
        limits = [limit for limit in (found.may_make, ruling.may_make if ruling else None) if limit is not None]
        times = (*found.changes_at, *([ruling.changes_at] if ruling and ruling.changes_at else []))
        beside = Beside(
            obstacle=found.obstacle,
            taken_names=self._store.names_taken(POD, md) | self._occupied.get(uid, frozenset()),
            mount_words=self._complaints.mount_words(),
            largest_gpus=self._complaints.largest_gpus(),
            let_go=ruling.let_go if ruling else (),
            may_make=min(limits, default=None),
            held=ruling.held if ruling else None,
            not_now=found.not_now,
            tried_since=release.tried_since if release and release.is_in_row(now) else None,
            surge_waits=found.waits,
            surge_refused=found.refused,
            changes_at=(*self._complaints.asks_at(its_pods), *times),
        )
        return pod_facts.observed(its_pods, self._of(REVISION, uid), beside, now)

    async def carry_out(self, md: ModelDeployment, plan: Plan, now: datetime) -> None:
        uid = md.metadata.uid
        records = {kinds.label(record, labels.REVISION): record for record in self._of(REVISION, uid)}
        for name in plan.forget:
            await self._annotate(records[name], labels.FAULT, None)
        for given_up in plan.give_up:
            await self._annotate(records[given_up.revision], labels.FAULT, given_up.words.to_text())
        self._let_go(md, plan, now)
        for pod in self._of(POD, uid):
            if kinds.label(pod, labels.REPLICA) in plan.delete and not kinds.is_leaving(pod):
                await self._delete(pod)
        if plan.create:
            await self._apply_own(SECRET, objects.secret(md, self._master_key), uid, is_known=False)
            self._occupied.pop(uid, None)
            for new in plan.create:
                if not await self._create(md, new, records[new.revision]["data"]["template"]):
                    return
                self._succession.was_made(uid, new.revision)

    def forget(self, uid: str) -> None:
        """The model is gone."""
        self._succession.forget(uid)
        self._releases.pop(uid, None)
        self._occupied.pop(uid, None)
        self._complaints.forget(self._store.made(POD, uid))

    def _let_go(self, md: ModelDeployment, plan: Plan, now: datetime) -> None:
        """Remember which gangs let go; where their revision is given up, others may look for nodes at once."""
        uid, revision = md.metadata.uid, rendering.revision(md)
        ruling = self._ruling(md, revision, now)
        if plan.give_up:
            self._releases.pop(uid, None)
        elif ruling and (names := set(ruling.let_go) & set(plan.delete)):
            made = min(gang.since for gang in pod_facts.pending_gangs(md, self._of(POD, uid)) if gang.replica in names)
            self._releases[uid] = ganging.after_release(self._releases.get(uid), made, revision, now)

    def _ruling(self, md: ModelDeployment, revision: str, now: datetime) -> Ruling | None:
        """What this model may do about gangs, given all that look for nodes; None where that is not on us."""
        if not ganging.is_ruled(md):
            return None
        models = [wish.md for wish in self._store.wishes() if wish.md is not None and ganging.is_ruled(wish.md)]
        pending = [
            gang for other in models for gang in pod_facts.pending_gangs(other, self._of(POD, other.metadata.uid))
        ]
        release = self._releases.get(md.metadata.uid)
        if release and (
            release.revision != revision or pod_facts.has_found_nodes(self._of(POD, md.metadata.uid), release.at)
        ):
            self._releases.pop(md.metadata.uid)
            release = None
        return ganging.rule(md, pending, release, now)

    def _of(self, kind: Kind, uid: str) -> list[Manifest]:
        """Only what we made: a label that somebody else put on is no proof."""
        return [manifest for manifest in self._store.made(kind, uid) if kinds.is_owned_by(manifest, uid)]

    def _known(self, uid: str, revision: str) -> Manifest | None:
        """The record of a revision."""
        return next((record for record in self._of(REVISION, uid) if kinds.revision(record) == revision), None)

    def _waits_for_turn(self, md: ModelDeployment, revision: str, now: datetime, *, claims: bool) -> str:
        """Why this model makes no replica beside its old ones now."""
        if not (md.spec.resources.gpu and self.manner(md, revision).surge):
            return self._needs_no_turn(md)
        seen = [pod_facts.surge(other, self._of(POD, other.metadata.uid)) for other in self._with_surging_pods()]
        return self._succession.wait_for_turn(md, seen, now, claims=claims)

    def _with_surging_pods(self) -> Iterator[ModelDeployment]:
        """Few at any time, and each model that rolls out asks for them: what is dear is looked at of these only."""
        for wish in self._store.wishes():
            if wish.md is not None and any(
                kinds.annotation(pod, labels.SURGE) for pod in self._store.made(POD, wish.uid)
            ):
                yield wish.md

    def _needs_no_turn(self, md: ModelDeployment) -> str:
        self._succession.needs_no_turn(md)
        return ""

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
            others = sum(kinds.replica(pod) != new.name for pod in self._of(POD, uid))  # its own go as well
            self._succession.was_refused(md, new.revision, sentence, fault.message, others)
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
        """Write it, unless something with its name is not ours, or it turns out to be there as it should be."""
        made = None
        if not is_known:
            there = await self._door.get(kind, kinds.namespace(manifest), kinds.name(manifest))
            if there is not None and not kinds.is_owned_by(there, uid):
                raise Foreign(kind.name, kinds.name(manifest))
            if there is not None and not upkeep.to_apply([manifest], [there]):
                made = there
        if made is None:
            made = await self._door.apply(kind, manifest)
        if kind in kinds.MADE:
            self._store.saw(kind, made)


def _has(found: list[Manifest], manifest: Manifest) -> bool:
    return any(other["kind"] == manifest["kind"] and kinds.name(other) == kinds.name(manifest) for other in found)
