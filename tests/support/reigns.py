"""An operator over a fake cluster: its reign begins from observation, and it works until nothing is left to do."""

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from builders import a_manifest
from fake_cluster import CREATED, Died, FakeCluster
from shoal_operator.cluster_world import ClusterWorld
from shoal_operator.installation import Installation
from shoal_operator.kinds import MADE, MODEL, Manifest, uid
from shoal_operator.operating import LoadSource, NoLoads, Operating
from shoal_operator.operator_metrics import OperatorMetrics
from shoal_operator.store import Store
from shoal_operator.work_queue import WorkQueue

T0 = datetime(2026, 11, 21, 12, 1, tzinfo=UTC)
INSTALLATION = Installation(engine_image="shoal/engine:1", file_roots=("/models",), surge_priority_class="shoal-surge")
MASTER_KEY = bytes(range(32))


def a_wish(name: str = "qwen", *, uid: str = "", created: str = CREATED, **spec: Any) -> Manifest:
    """A ModelDeployment as an API server keeps it."""
    manifest = a_manifest(name, **{"model": {"source": "file:///models/qwen"}, **spec})
    manifest["metadata"] |= {
        "namespace": "team",
        "uid": uid or f"uid-{name}",
        "generation": 1,
        "creationTimestamp": created,
    }
    return manifest


class Reign:
    """One operator from its start on; the clock is the caller's: `now`, or one that goes by itself."""

    def __init__(
        self,
        cluster: FakeCluster,
        now: datetime = T0,
        loads: LoadSource | None = None,
        clock: Callable[[], datetime] | None = None,
        master_key: bytes = MASTER_KEY,
    ) -> None:
        self.cluster = cluster
        self.now = now
        clock = clock or (lambda: self.now)
        self.changed: list[str] = []
        self.store = Store(self.changed.append)
        self.queue = WorkQueue()
        self.metrics = OperatorMetrics()
        world = ClusterWorld(cluster, self.store, INSTALLATION, master_key, clock)
        self.operating = Operating(
            cluster,
            self.store,
            self.queue,
            world,
            INSTALLATION,
            loads or NoLoads(),
            self.metrics,
            identity="me",
            clock=clock,
            chance=random.Random(7),
        )

    async def observe(self) -> None:
        """What the watches would tell."""
        for kind in (MODEL, *MADE):
            listing = await self.cluster.find_all(kind, None)
            self.store.replace(kind, listing.objects, listing.version)

    async def look(self) -> None:
        """Look at every model once."""
        await self.observe()
        for wish in list(self.store.wishes()):
            await self.operating.look_at(wish.uid)

    async def settle(self) -> None:
        """Let kubelets and the operator work until nothing changes any more."""
        for _ in range(20):
            before = self.cluster.version
            self.cluster.run_pods()
            await self.look()
            if self.cluster.version == before:
                self.queue.close()
                return
        raise AssertionError(f"still changing: {self.cluster.writes[-5:]}")


def settled(
    *wishes: Manifest, cluster: FakeCluster | None = None, now: datetime = T0, master_key: bytes = MASTER_KEY
) -> FakeCluster:
    """A cluster with these models, when everything has come up."""
    cluster = cluster or FakeCluster()
    for wish in wishes:
        cluster.add(wish)
    asyncio.run(Reign(cluster, now, master_key=master_key).settle())
    return cluster


def killed(cluster: FakeCluster, now: datetime = T0) -> bool:
    """Work until the cluster's fatal call; whether it came to that."""
    try:
        asyncio.run(Reign(cluster, now).settle())
    except Died:
        return True
    return False


def model_uid(cluster: FakeCluster, name: str = "qwen") -> str:
    return uid(cluster.objects["ModelDeployment", "team", name])
