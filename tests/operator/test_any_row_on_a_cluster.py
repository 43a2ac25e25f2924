"""Models, gangs, quotas, lost pods, faults of the API server and new operators in any row: in the end all is well."""

import asyncio
import logging
import random
from datetime import datetime, timedelta
from typing import Any

import pytest

from fake_cluster import running
from reigns import T0, a_wish
from shoal_operator import kinds
from shoal_operator.api_faults import ApiFault
from shoal_operator.kinds import MODEL, POD, Kind, Manifest
from shoal_operator.load import Load, Sample
from timed_reign import TimedCluster, TimedReign, stamp

SHAPES: list[dict[str, Any]] = [
    {},
    {"resources": {"gpu": 1}},
    {"parallelism": {"tensor": 2, "pipeline": 2}, "resources": {"gpu": 2}},
]
BOUNDS = {"maxReplicas": 3, "targetLoad": 2, "idleSeconds": 20}
FREE, LONG_SECONDS = 1000, 4000.0


class Place:
    """A cluster, its kubelets, and an operator; also who tells the load (operating.LoadSource)."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now = T0
        self.cluster = TimedCluster(refuses=self.refuses)
        self.cluster.clock = lambda: self.now
        self.loads: dict[str, Load] = {}
        self.nodes, self.quota, self.faults = self.chance.choice([3, 6, FREE]), FREE, 0.0
        self.reign = TimedReign(self.cluster, self)

    def of(self, model: str, _now: datetime) -> Load:
        return self.loads.get(model, Load((Sample(T0 - timedelta(seconds=100), 0, 0),), T0, T0))

    def forget(self, model: str) -> None:
        self.loads.pop(model, None)

    def refuses(self, method: str, kind: Kind, _manifest: Manifest) -> ApiFault | None:
        used = len(self.cluster.of(POD))
        if method in ("create", "rehearse") and kind == POD and used >= self.quota:
            words = f"exceeded quota: few, requested: pods=1, used: pods={used}, limited: pods={self.quota}"
            return ApiFault(403, f"pods is forbidden: {words}")
        return ApiFault(500, "etcd has no leader") if self.chance.random() < self.faults else None

    def kubelets(self, likely: float) -> None:
        for pod in self.cluster.of(POD):
            if self.chance.random() >= likely:
                continue
            housed = sum(bool(other["spec"].get("nodeName")) for other in self.cluster.of(POD))
            if kinds.is_leaving(pod):
                self.cluster.remove(POD, pod)
            elif pod["spec"].get("nodeName"):
                if pod["status"]["phase"] == "Pending":
                    self.cluster.change(POD, pod, {"status": running(at=stamp(self.now))})
            elif housed < self.nodes:
                self.cluster.change(POD, pod, {"spec": {"nodeName": "n"}, "status": {"conditions": []}})
            elif not pod["status"].get("conditions"):
                self.cluster.change(POD, pod, {"status": {"conditions": [self.no_room()]}})

    def no_room(self) -> dict[str, str]:
        message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
        since = {"lastTransitionTime": stamp(self.now)}
        return {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message} | since

    async def passes(self, seconds: float, likely: float) -> None:
        """So much time, without anything but what kubelets and the operator do; who asks for a look gets it in time."""
        end = self.now + timedelta(seconds=seconds)
        while True:
            await self.reign.looks()
            before = self.cluster.version
            self.kubelets(likely)
            if self.cluster.version != before:
                self.now += timedelta(seconds=1)
            elif self.now >= end:
                return
            else:
                soon = self.now + timedelta(seconds=0.5)
                self.now = min([end, *(max(due, soon) for due in self.reign.queue.later_at.values())])

    def something_happens(self) -> None:
        models, pods, chance = self.cluster.of(MODEL), self.cluster.of(POD), self.chance
        what = chance.choice(["model", "edit", "edit", "number", "load", "lost", "evicted", "told to go"])
        what = what if chance.random() < 0.7 else chance.choice(["faults", "quota", "nodes", "operator"])
        if what == "model" or not models:
            self.a_model()
        elif what == "edit":
            self.edit(chance.choice(models), {"engine": {"args": [f"--seed={chance.randrange(3)}"]}})
        elif what == "number":
            self.edit(chance.choice(models), {"replicas": chance.choice([None, 0, 1, 2])})
        elif what == "load":
            name = f"team/{kinds.name(chance.choice(models))}"
            waiting, in_flight = chance.choice([(0, 0), (3, 0), (0, 5)])
            newest = Sample(self.now - timedelta(seconds=3), waiting, in_flight)
            self.loads[name] = Load((Sample(T0 - timedelta(seconds=40), 0, 0), newest), self.now, T0)
            self.reign.operating.load_changed(frozenset({name}))
        elif what == "faults":
            self.faults = chance.choice([0, 0.1, 0.5])
        elif what == "quota":
            self.quota = chance.choice([FREE, 2, 4])
        elif what == "nodes":
            self.nodes = chance.choice([1, 2, 4, 6, FREE])
        elif what == "operator":
            self.reign = TimedReign(self.cluster, self)
        elif pods:
            self.befalls(chance.choice(pods), what)

    def befalls(self, pod: Manifest, what: str) -> None:
        if what == "lost":
            self.cluster.remove(POD, pod)
        elif what == "evicted":
            self.cluster.change(POD, pod, {"status": {"phase": "Failed", "reason": "Evicted"}})
        elif what == "told to go":
            self.cluster.change(POD, pod, {"metadata": {"deletionTimestamp": stamp(self.now)}})

    def a_model(self) -> None:
        name, chance = self.chance.choice("abc"), self.chance
        if ("ModelDeployment", "team", name) in self.cluster.objects:
            return
        rollout = {"strategy": chance.choice(["Auto", "Surge", "DeleteFirst"]), "startDeadlineSeconds": 1800}
        scaling = {"scaling": {"minReplicas": chance.choice([0, 1]), **BOUNDS}}
        count = chance.choice([{"replicas": 1}, {"replicas": 2}, scaling])
        self.cluster.add(a_wish(name, rollout=rollout, **chance.choice(SHAPES), **count))

    def edit(self, model: Manifest, spec: dict[str, Any]) -> None:
        generation = model["metadata"]["generation"] + 1
        self.cluster.change(MODEL, model, {"spec": spec, "metadata": {"generation": generation}})


@pytest.mark.parametrize("seed", range(8))
def test_whatever_comes_in_whatever_row_all_models_are_well_in_the_end(
    seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place(seed)

    async def story() -> None:
        for _ in range(place.chance.randint(8, 20)):
            place.something_happens()
            await place.passes(place.chance.choice([1, 3, 15, 70]), likely=0.5)
        place.nodes, place.quota, place.faults = FREE, FREE, 0.0
        await place.passes(LONG_SECONDS, likely=1.0)
        writes = len(place.cluster.writes)
        await place.passes(60, likely=1.0)
        assert place.cluster.writes[writes:] == []

    with caplog.at_level(logging.ERROR):
        asyncio.run(story())

    assert [record.getMessage() for record in caplog.records if "reason=Bug" in record.getMessage()] == []
    for model in place.cluster.of(MODEL):
        told = {c["type"]: (c["status"], c["reason"]) for c in model["status"]["conditions"]}
        assert told["Ready"][0] == "True", model
        assert told["Progressing"][1] in ("Complete", "CannotStart"), model
