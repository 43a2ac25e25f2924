"""The operator while it leads: takes what changed from the queue, reconciles it, and tells the outcome."""

import asyncio
import hashlib
import logging
import random
import time
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from shoal_api import labels, naming
from shoal_api.conditions import Reason
from shoal_api.modeldeployment import API_VERSION, KIND, ModelDeployment
from shoal_api.naming import Grant
from shoal_api.rules import Fault
from shoal_api.status import Status
from shoal_operator import happenings, kinds, lease_holding, on_kubernetes, reconciling, rendering, status, unbuilt
from shoal_operator.api_faults import ApiFault, Foreign, NotLeading, TryAgain, Unreachable
from shoal_operator.cluster_world import ClusterWorld, Door
from shoal_operator.happenings import Happening
from shoal_operator.installation import Installation
from shoal_operator.kinds import EVENT, MODEL, Manifest
from shoal_operator.load import Load
from shoal_operator.operator_metrics import OperatorMetrics
from shoal_operator.scaling import FRESH, Memory
from shoal_operator.store import Store, Wish
from shoal_operator.work_queue import WorkQueue

log = logging.getLogger(__name__)

WORKERS = 8
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 60.0
_EVENT_CHARACTERS = 1000


class LoadSource(Protocol):
    """Who knows the load of each model; `load_source.Loads` tells what each does."""

    def of(self, model: str, now: datetime) -> Load: ...
    def forget(self, model: str) -> None: ...


class NoLoads:
    """Nobody may be asked, and each model is told so."""

    def of(self, _model: str, _now: datetime) -> Load:
        return Load(unknown_because="the operator runs without --gateway-service, so nobody tells it the load")

    def forget(self, _model: str) -> None:
        """There is nothing to forget."""


class Operating:
    """One reign: from the Lease won to the Lease lost."""

    def __init__(
        self,
        door: Door,
        store: Store,
        queue: WorkQueue,
        world: ClusterWorld,
        installation: Installation,
        loads: LoadSource,
        metrics: OperatorMetrics,
        *,
        identity: str,
        clock: Callable[[], datetime],
        chance: random.Random,
    ) -> None:
        self._door = door
        self._store = store
        self._queue = queue
        self._world = world
        self._installation = installation
        self._loads = loads
        self._metrics = metrics
        self._identity = identity
        self._clock = clock
        self._chance = chance
        self._failures: dict[str, int] = {}
        self._memories: dict[str, Memory] = {}
        self._ids: dict[str, str] = {}
        self._grants: dict[str, Grant] = {}
        self._grants_of = -1
        self._in_vain: frozenset[str] = frozenset()
        """Models that chose a name which another one has, by UID."""

    async def work(self) -> None:
        """Work until cancelled; several of these share the queue."""
        while True:
            uid = await self._queue.take()
            try:
                await self.look_at(uid)
            finally:
                self._queue.done(uid)

    async def look_at(self, uid: str) -> None:
        """Reconcile one model; what fails is tried again after a pause that doubles."""
        began = time.monotonic()
        try:
            again = await self._reconcile(uid)
        except NotLeading:
            # The Lease is in doubt for a moment, as under an API server that answers slowly; or this reign ends, and
            # its queue with it.
            self._queue.add_later(uid, lease_holding.RENEW_SECONDS)
        except (TryAgain, ApiFault, Foreign) as fault:
            self._try_later(uid, str(fault))
        except Exception:  # one model that breaks us must not stop the others; it is seen in log and metrics
            log.exception("model=%s reason=Bug", self._id(uid))
            self._try_later(uid, "a fault of the operator itself")
        else:
            self._failures.pop(uid, None)
            if again is not None:
                self._queue.add_later(uid, again)
        finally:
            self._metrics.reconciled(time.monotonic() - began)

    async def _reconcile(self, uid: str) -> float | None:
        wish = self._store.wish(uid)
        if wish is None or kinds.is_leaving(wish.manifest):
            self._forget(uid)
            return None
        if wish.md is None:
            await self._refuse(wish, list(wish.faults), Reason.INVALID_SPEC)
            return None
        md = wish.md
        faults = on_kubernetes.refusals(md, self._installation)
        if faults:
            not_built = unbuilt.faults(md)
            await self._refuse(wish, faults, Reason.NOT_BUILT if faults == not_built else Reason.INVALID_SPEC)
            return None
        now = self._clock()
        load, memory = self._loads.of(md.id, now), self._memories.get(uid, FRESH)
        self._ids[uid] = md.id
        try:
            await self._world.tend(md, rendering.revision(md))
            outcome = await reconciling.reconcile(md, self._grant(md), self._world, now, load, memory)
        except Foreign as foreign:
            await self._refuse(wish, [Fault("", str(foreign))], Reason.NAME_OCCUPIED)
            raise
        self._memories[uid] = outcome.memory
        if outcome.plan.changes_something:
            self._metrics.decided(outcome.plan.step)
        scaled = happenings.of_scale(wish.status, outcome.status)
        for happening in scaled:
            self._metrics.decided(happening.reason)
        selector = f"{labels.MODEL_UID}={uid},{labels.RANK}=0"
        told = outcome.status.model_copy(update={"selector": selector})
        self._metrics.counted(md.id, told)
        is_refused = outcome.observed.obstacle is not None
        await self._tell(wish, told, [*scaled, *([] if is_refused else happenings.of_plan(outcome.plan))])
        return outcome.plan.look_again_after

    def load_changed(self, models: frozenset[str] | None) -> None:
        """Have these models looked at, by namespace/name; None: all whose number follows the load."""
        if models is None:
            uids = [wish.uid for wish in self._store.wishes() if wish.md is not None and wish.md.spec.scaling]
        else:
            uids = [uid for model in models if (uid := self._store.uid_of(model)) is not None]
        for uid in uids:
            self._queue.add(uid)

    async def _refuse(self, wish: Wish, faults: list[Fault], reason: Reason) -> None:
        sentence = "; ".join(str(fault) for fault in faults)
        generation = int(wish.manifest["metadata"].get("generation", 0))
        told = status.refused(wish.status, generation, sentence, reason, self._clock())
        if wish.md is not None:
            # Clients that ask for it are told why it does not answer, not that nobody knows it.
            told = told.model_copy(update={"names": list(self._grant(wish.md).names)})
        await self._tell(wish, told, [])

    async def _tell(self, wish: Wish, told: Status, done: list[Happening]) -> None:
        """Events first: one that is told twice is counted, one that is lost is lost."""
        before = wish.status
        news = [*done, *happenings.of_status(before, told)]
        for happening in news:
            await self._post(wish, happening)
        if told != before:
            where = {"name": kinds.name(wish.manifest), "namespace": kinds.namespace(wish.manifest), "uid": wish.uid}
            written = told.model_dump(mode="json", by_alias=True, exclude_none=True)
            manifest = {"apiVersion": API_VERSION, "kind": KIND, "metadata": where, "status": written}
            self._store.saw(MODEL, await self._door.apply(MODEL, manifest, "status"))

    async def _post(self, wish: Wish, happening: Happening) -> None:
        """An Event, or one more of the same; nothing else waits for it or fails with it."""
        event = _event(wish, happening, self._identity, self._clock())
        log.info('model=%s reason=%s because="%s"', wish.id, happening.reason, happening.sentence)
        try:
            try:
                await self._door.create(EVENT, event)
            except ApiFault as fault:
                if not fault.is_conflict:
                    raise
                namespace, name = event["metadata"]["namespace"], event["metadata"]["name"]
                known = await self._door.get(EVENT, namespace, name) or {}
                more = {"count": int(known.get("count", 0)) + 1, "lastTimestamp": event["lastTimestamp"]}
                await self._door.patch(EVENT, namespace, name, more)
        except (ApiFault, Unreachable) as fault:
            log.warning('model=%s reason=EventLost because="%s"', wish.id, fault)

    def _grant(self, md: ModelDeployment) -> Grant:
        """Who has which name; the others are looked at again when that changes."""
        if self._grants_of != self._store.names_version:
            self._grants_of = self._store.names_version
            models = {wish.md.id: wish for wish in self._store.wishes() if wish.md is not None}
            grants = naming.grant(wish.md for wish in models.values() if wish.md is not None)
            for model_id, wish in models.items():
                if model_id != md.id and self._grants.get(model_id, grants[model_id]) != grants[model_id]:
                    self._queue.add(wish.uid)
            self._grants = grants
            self._in_vain = frozenset(models[model_id].uid for model_id, grant in grants.items() if grant.taken)
        return self._grants.get(md.id, Grant((), ()))

    def _try_later(self, uid: str, why: str) -> None:
        failures = self._failures.get(uid, 0)
        self._failures[uid] = failures + 1
        pause = min(FIRST_PAUSE_SECONDS * 2.0 ** min(failures, 20), LONGEST_PAUSE_SECONDS)
        pause *= self._chance.uniform(0.8, 1.2)
        log.warning('model=%s reason=TryingLater seconds=%.1f because="%s"', self._id(uid), pause, why)
        self._queue.add_later(uid, pause)

    def _forget(self, uid: str) -> None:
        self._failures.pop(uid, None)
        self._memories.pop(uid, None)
        model = self._ids.pop(uid, None)
        if model is not None and self._store.uid_of(model) in (None, uid):
            self._loads.forget(model)
            self._metrics.forget(model)
        self._queue.forget(uid)
        self._world.forget(uid)
        # Names that it held are free now.
        if self._grants_of != self._store.names_version:
            for other in self._in_vain:
                wish = self._store.wish(other)
                if wish is not None and not kinds.is_leaving(wish.manifest):
                    self._queue.add(other)

    def _id(self, uid: str) -> str:
        wish = self._store.wish(uid)
        return wish.id if wish else uid


def _event(wish: Wish, happening: Happening, identity: str, now: datetime) -> Manifest:
    """The same happening has the same name, so that it is counted and not repeated."""
    words = f"{wish.uid}\n{happening.reason}\n{happening.sentence}"
    name = naming.object_name(kinds.name(wish.manifest), hashlib.sha256(words.encode()).hexdigest()[:16])
    moment = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    metadata = wish.manifest["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        },
        "type": "Warning" if happening.is_warning else "Normal",
        "reason": happening.reason,
        "message": happening.sentence[:_EVENT_CHARACTERS],
        "source": {"component": "shoal"},
        "reportingComponent": "shoal",
        "reportingInstance": identity,
        "count": 1,
        "firstTimestamp": moment,
        "lastTimestamp": moment,
    }


async def run_workers(operating: Operating) -> None:
    """All workers until cancelled."""
    async with asyncio.TaskGroup() as group:
        for _ in range(WORKERS):
            group.create_task(operating.work())
