"""`shoal operator`: wait for the Lease, reign, and begin anew when it is lost."""

import asyncio
import logging
import random
import signal
import time
from datetime import UTC, datetime

from shoal_api import labels, proof
from shoal_operator import cluster, fitness, health
from shoal_operator.api_faults import ApiFault, Unreachable
from shoal_operator.cluster import Cluster
from shoal_operator.cluster_world import ClusterWorld
from shoal_operator.fitness import Signs
from shoal_operator.gateway_places import GatewayPlaces
from shoal_operator.handlers import Watching
from shoal_operator.health import Answers
from shoal_operator.kinds import MADE, MODEL, Kind, Manifest
from shoal_operator.leading import Leading
from shoal_operator.load_source import Loads
from shoal_operator.operating import NoLoads, Operating, run_workers
from shoal_operator.operator_metrics import OperatorMetrics
from shoal_operator.operator_settings import OperatorSettings
from shoal_operator.relisting import Relisting
from shoal_operator.settings import BadSettings
from shoal_operator.store import Store
from shoal_operator.work_queue import WorkQueue

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 2.0


async def run(settings: OperatorSettings) -> None:
    """Until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    metrics = OperatorMetrics()
    leading = Leading(
        settings.lease_namespace, settings.lease_name, settings.identity, ticks=time.monotonic, clock=_now
    )
    door = Cluster(await cluster.configuration(settings.kubeconfig), leading.leads, metrics.called)
    vitals = Vitals(leading, time.monotonic())
    answers = Answers(
        is_live=lambda: fitness.is_live(vitals.signs(), time.monotonic()),
        is_ready=lambda: fitness.is_ready(vitals.signs(), time.monotonic()),
        metrics=metrics.text,
    )
    try:
        server = await health.serve(settings.host, settings.port, answers)
    except OSError as error:
        raise BadSettings(f"--listen {settings.host}:{settings.port}: {error.strerror}; give another port") from error
    try:
        async with server:
            governing = asyncio.create_task(_govern(settings, door, leading, metrics, vitals))
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait([governing, stopping], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            governing.cancel()
            await asyncio.wait([governing])
            await leading.give_back(door)
            if not governing.cancelled():
                governing.result()
    finally:
        await door.close()


class Vitals:
    """Where the signs of fitness come from; `reign` is the present one."""

    def __init__(self, leading: Leading, started: float) -> None:
        self._leading = leading
        self._started = started
        self.reign: Reign | None = None

    def signs(self) -> Signs:
        reign = self.reign
        return Signs(
            started=self._started,
            asked=self._leading.asked,
            heard=self._leading.heard,
            leads=self._leading.leads(),
            has_listed=reign is not None and reign.has_listed,
            oldest_look=reign.oldest_look if reign is not None else None,
        )


async def _govern(
    settings: OperatorSettings, door: Cluster, leading: Leading, metrics: OperatorMetrics, vitals: Vitals
) -> None:
    """One reign after the other."""
    while True:
        log.info('reason=Waiting because="%s waits for the Lease"', settings.identity)
        await leading.win(door)
        log.info('reason=Leading because="%s holds the Lease"', settings.identity)
        metrics.leads(True)
        try:
            vitals.reign = Reign(settings, door, leading, metrics)
            await vitals.reign.run()
        finally:
            vitals.reign = None
            metrics.leads(False)
        await asyncio.sleep(_PAUSE_SECONDS)


class Reign:
    """Everything that lives as long as the Lease is held; the next one begins from observation alone."""

    def __init__(self, settings: OperatorSettings, door: Cluster, leading: Leading, metrics: OperatorMetrics) -> None:
        self._settings = settings
        self._door = door
        self._leading = leading
        self._queue = WorkQueue()
        metrics.watch_queue(lambda: len(self._queue))
        self._store = Store(self._queue.add)
        world = ClusterWorld(door, self._store, settings.installation, settings.master_key, _now)
        self._places = GatewayPlaces(door, settings.gateway_service) if settings.gateway_service else None
        self._loads: Loads | None = None
        if self._places is not None:
            token = proof.load_token(settings.master_key)
            self._loads = Loads(self._places.known, token, _now, self._load_changed)
        self._operating = Operating(
            door,
            self._store,
            self._queue,
            world,
            settings.installation,
            self._loads or NoLoads(),
            metrics,
            identity=settings.identity,
            clock=_now,
            chance=random.Random(),  # noqa: S311  (spreads tries; guards nothing)
        )
        self._relisting = Relisting(self._list_all)
        self.has_listed = False
        """Whether everything there is has been read once."""

    @property
    def oldest_look(self) -> float | None:
        """When the look at a model began that takes longest now."""
        return self._queue.oldest

    async def run(self) -> None:
        """Until the Lease is lost, the watches end, or this is cancelled."""
        keeping = asyncio.create_task(self._leading.keep(self._door))
        working = asyncio.create_task(self._work())
        try:
            done, _ = await asyncio.wait([keeping, working], return_when=asyncio.FIRST_COMPLETED)
            if working in done and (error := working.exception()) is not None:
                log.error('reason=ReignEnds because="%s"', error)
            elif keeping in done:
                log.error('reason=LeaseLost because="another operator may lead; this one stops and waits"')
        finally:
            for task in (keeping, working):
                task.cancel()
            await asyncio.wait([keeping, working])
            self._queue.close()

    async def _work(self) -> None:
        await self._list_all()
        self.has_listed = True
        selector = labels.MODEL_UID
        watching = Watching(self._door.connection, self._settings.namespaces, self._seen, selector)
        watching.start()
        tasks = [
            asyncio.create_task(run_workers(self._operating)),
            asyncio.create_task(self._relisting.run()),
            asyncio.create_task(watching.ended()),
        ]
        if self._places is not None and self._loads is not None:
            tasks += [asyncio.create_task(self._places.run()), asyncio.create_task(self._loads.run())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            raise RuntimeError("the watches ended")
        finally:
            for task in tasks:
                task.cancel()
            await watching.stop()

    def _load_changed(self, models: frozenset[str] | None) -> None:
        self._operating.load_changed(models)

    def _seen(self, kind: Kind, manifest: Manifest, what: str | None) -> None:
        if what == "DELETED":
            self._store.lost(kind, manifest)
            return
        self._store.saw(kind, manifest)
        if what is None:
            self._relisting.was_listed()

    async def _list_all(self) -> None:
        while True:
            try:
                for kind in (MODEL, *MADE):
                    selector = "" if kind == MODEL else labels.MODEL_UID
                    namespaces = self._settings.namespaces or (None,)
                    lists = [await self._door.find_all(kind, namespace, selector) for namespace in namespaces]
                    found = [manifest for listing in lists for manifest in listing.objects]
                    self._store.replace(kind, found, min(listing.version for listing in lists))
                return
            except (Unreachable, ApiFault) as fault:
                log.warning('reason=ListFailed because="%s"', fault)
                await asyncio.sleep(_PAUSE_SECONDS)


def _now() -> datetime:
    return datetime.now(UTC)
