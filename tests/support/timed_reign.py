"""An operator over a fake cluster in a time that the test moves: it looks when watches tell it to, or its last look."""

import copy
import random
from collections.abc import Callable
from datetime import datetime, timedelta

from fake_cluster import FakeCluster
from reigns import INSTALLATION, MASTER_KEY
from shoal_operator.cluster_world import ClusterWorld
from shoal_operator.kinds import MADE, MODEL, Kind, Manifest
from shoal_operator.operating import LoadSource, Operating
from shoal_operator.operator_metrics import OperatorMetrics
from shoal_operator.store import Store
from shoal_operator.work_queue import WorkQueue

MOST_LOOKS = 200
"""So many in one moment only where two looks undo each other."""


def stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


class TimedCluster(FakeCluster):
    """Pods are made, and told to go, at the time of the test."""

    clock: Callable[[], datetime]

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        made = copy.deepcopy(manifest)
        made["metadata"]["creationTimestamp"] = stamp(self.clock())
        return await super().create(kind, made)

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str, grace_seconds: int | None = None) -> None:
        await super().delete(kind, namespace, name, uid, grace_seconds)
        left = self.objects.get((kind.name, namespace, name), {"metadata": {}})["metadata"]
        if "deletionTimestamp" in left:
            left["deletionTimestamp"] = stamp(self.clock() + timedelta(seconds=600))


class TimedQueue(WorkQueue):
    """What is to be looked at now, and when what else."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        super().__init__()
        self._clock = clock
        self._now: list[str] = []
        self.later_at: dict[str, datetime] = {}

    def add(self, key: str) -> None:
        if key not in self._now:
            self._now.append(key)

    def add_later(self, key: str, seconds: float) -> None:
        due = self._clock() + timedelta(seconds=seconds)
        self.later_at[key] = min(due, self.later_at.get(key, due))

    def forget(self, key: str) -> None:
        self.later_at.pop(key, None)

    def next(self) -> str | None:
        """The next one that is to be looked at now."""
        for key in [key for key, due in self.later_at.items() if due <= self._clock()]:
            del self.later_at[key]
            self.add(key)
        return self._now.pop(0) if self._now else None


class TimedReign:
    """One operator from its start on."""

    def __init__(self, cluster: TimedCluster, loads: LoadSource) -> None:
        self._cluster = cluster
        self.queue = TimedQueue(cluster.clock)
        self._store = Store(self.queue.add)
        world = ClusterWorld(cluster, self._store, INSTALLATION, MASTER_KEY, cluster.clock)
        self.operating = Operating(
            cluster,
            self._store,
            self.queue,
            world,
            INSTALLATION,
            loads,
            OperatorMetrics(),
            identity="me",
            clock=cluster.clock,
            chance=random.Random(7),
        )

    async def looks(self) -> None:
        """At whatever the watches tell of, and what is due, until there is nothing more in this moment."""
        for kind in (MODEL, *MADE):
            listing = await self._cluster.find_all(kind, None)
            self._store.replace(kind, listing.objects, listing.version)
        for _ in range(MOST_LOOKS):
            uid = self.queue.next()
            if uid is None:
                return
            await self.operating.look_at(uid)
        raise AssertionError(f"no end of looks: {self._cluster.writes[-6:]}")
