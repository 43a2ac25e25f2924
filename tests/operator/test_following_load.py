"""An operator on Kubernetes follows the load: up, down, to zero and back, and never where nobody told it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from facts import DEADLINE_SECONDS
from fake_cluster import FakeCluster
from reigns import INSTALLATION, MASTER_KEY, T0, Reign, a_wish, settled
from replicas import PERMANENT
from shoal_api import labels, modeldeployment, proof
from shoal_api.load import ModelLoad
from shoal_api.naming import Grant
from shoal_operator import kinds, reconciling
from shoal_operator.cluster_world import ClusterWorld
from shoal_operator.gateway_places import GatewayPlaces
from shoal_operator.kinds import EVENT, MODEL, POD, REVISION
from shoal_operator.load import Load, Sample
from shoal_operator.load_source import Loads
from shoal_operator.operating import run_workers
from shoal_operator.scaling import FRESH
from standin_gateway import StandinGateway, a_standin_gateway

ID = "team/qwen"
BOUNDS = {"minReplicas": 0, "maxReplicas": 4, "targetLoad": 2, "idleSeconds": 30, "scaleDownDelaySeconds": 60}


@dataclass
class Told:
    """Implements operating.LoadSource: what a test says."""

    loads: dict[str, Load] = field(default_factory=dict)
    forgotten: list[str] = field(default_factory=list)

    def of(self, model: str, _now: datetime) -> Load:
        return self.loads.get(model, Load())

    def forget(self, model: str) -> None:
        self.forgotten.append(model)


def a_load(*samples: tuple[float, int, int], busy: float | None = None) -> Load:
    """Samples as seconds after T0, waiting and in flight."""
    at = None if busy is None else T0 + timedelta(seconds=busy)
    return Load(tuple(Sample(T0 + timedelta(seconds=s), w, f) for s, w, f in samples), at, T0)


def status(cluster: FakeCluster) -> dict[str, Any]:
    found: dict[str, Any] = cluster.of(MODEL)[0]["status"]
    return found


def scaling_active(cluster: FakeCluster) -> tuple[str, str, str]:
    found = next(c for c in status(cluster)["conditions"] if c["type"] == "ScalingActive")
    return found["status"], found["reason"], found["message"]


async def looks(reign: Reign, seconds: float, step: float = 5) -> None:
    """Look again and again while the clock goes on and kubelets work."""
    end = reign.now + timedelta(seconds=seconds)
    while reign.now < end:
        reign.now += timedelta(seconds=step)
        await reign.look()
        reign.cluster.run_pods()
    await reign.look()


def test_a_held_request_wakes_a_model_and_without_requests_it_goes_to_zero_again() -> None:
    cluster = FakeCluster()
    cluster.add(a_wish(scaling=BOUNDS))
    told = Told({ID: a_load((0, 0, 0))})

    async def story() -> Reign:
        reign = Reign(cluster, T0 + timedelta(seconds=1.25), told)
        await reign.look()
        assert cluster.of(POD) == []
        assert scaling_active(cluster)[:2] == ("True", "FollowsLoad")

        told.loads[ID] = a_load((0, 0, 0), (1, 1, 0))
        await reign.look()
        assert len(cluster.of(POD)) == 1
        assert status(cluster)["lastScale"]["reason"] == "Woken"
        assert status(cluster)["lastScale"]["time"] == "2026-11-21T12:01:01Z", "whole seconds"
        cluster.run_pods()

        told.loads[ID] = a_load((0, 0, 0), (1, 1, 0), (3, 0, 0), busy=3)
        await looks(reign, 25)
        assert status(cluster)["readyReplicas"] == 1, "it is not idle for long enough"
        await looks(reign, 10)
        reign.queue.close()
        return reign

    reign = asyncio.run(story())

    assert cluster.of(POD) == []
    assert status(cluster)["desiredReplicas"] == 0
    assert status(cluster)["lastScale"]["reason"] == "Idle"
    told_of = [event["reason"] for event in cluster.of(EVENT)]
    assert {"Woken", "Idle"} <= set(told_of)
    page = reign.metrics.text().decode()
    for reason in ("Woken", "Idle"):
        assert f'shoal_decisions_total{{reason="{reason}"}} 1.0' in page
    assert f'shoal_desired_replicas{{model="{ID}"}} 0.0' in page


def test_it_goes_down_only_after_the_delay_which_it_remembers_from_look_to_look() -> None:
    cluster = settled(a_wish(replicas=4))
    del cluster.of(MODEL)[0]["spec"]["replicas"]
    cluster.change(MODEL, cluster.of(MODEL)[0], {"spec": {"scaling": BOUNDS}, "metadata": {"generation": 2}})
    told = Told({ID: a_load((-120, 0, 1))})

    async def story() -> None:
        reign = Reign(cluster, T0, told)
        await looks(reign, 50)
        assert status(cluster)["desiredReplicas"] == 4
        assert scaling_active(cluster)[1] == "HeldByDelay"
        await looks(reign, 15)
        reign.queue.close()

    asyncio.run(story())

    assert status(cluster)["desiredReplicas"] == 1
    assert status(cluster)["lastScale"]["reason"] == "LoadFell"
    assert status(cluster)["load"] == {"waiting": 0, "inFlight": 1}


def test_without_a_service_of_gateways_nothing_scales_and_the_condition_says_why() -> None:
    cluster = settled(a_wish(scaling=BOUNDS | {"minReplicas": 2}))
    before = list(cluster.writes)
    settled(cluster=cluster, now=T0 + timedelta(hours=1))

    assert len(cluster.of(POD)) == 2
    assert cluster.writes == before
    active, reason, message = scaling_active(cluster)
    assert (active, reason) == ("False", "NoLoadData")
    assert "--gateway-service" in message


def test_who_is_looked_at_when_a_load_changes() -> None:
    cluster = FakeCluster()
    cluster.add(a_wish("follows", scaling=BOUNDS))
    cluster.add(a_wish("fixed", replicas=1))

    async def woken(models: frozenset[str] | None) -> set[str]:
        reign = Reign(cluster, T0)
        await reign.observe()
        reign.operating.load_changed(models)
        return {await reign.queue.take() for _ in range(len(reign.queue))}

    assert asyncio.run(woken(None)) == {"uid-follows"}
    assert asyncio.run(woken(frozenset({"team/fixed", "team/unknown"}))) == {"uid-fixed"}
    assert asyncio.run(woken(frozenset())) == set()


def test_a_load_is_forgotten_with_its_model_but_not_when_the_model_was_made_anew() -> None:
    cluster = settled(a_wish(scaling=BOUNDS, uid="first"))
    told = Told()

    async def story() -> None:
        reign = Reign(cluster, T0, told)
        await reign.look()
        old = cluster.of(MODEL)[0]
        new = cluster.add(a_wish(scaling=BOUNDS, uid="second"))
        reign.store.saw(MODEL, new)
        reign.store.lost(MODEL, old)
        await reign.operating.look_at("first")
        assert told.forgotten == []
        await reign.operating.look_at("second")
        reign.store.lost(MODEL, cluster.of(MODEL)[0])
        await reign.operating.look_at("second")
        assert told.forgotten == [ID]
        reign.queue.close()

    asyncio.run(story())


def test_a_gateway_behind_the_service_is_dialled_and_what_it_holds_makes_a_pod() -> None:
    async def story() -> None:
        async with a_standin_gateway() as gateway, asyncio.TaskGroup() as group:
            cluster = FakeCluster()
            cluster.add(a_wish(scaling=BOUNDS))
            put(cluster, gateway)
            places = GatewayPlaces(cluster, ("shoal-system", "gw"))
            token = proof.load_token(MASTER_KEY)

            def changed(models: frozenset[str] | None) -> None:
                reign.operating.load_changed(models)

            loads = Loads(places.known, token, now, changed)
            reign = Reign(cluster, loads=loads, clock=now)
            await reign.observe()
            tasks = [group.create_task(run()) for run in (places.run, loads.run, lambda: run_workers(reign.operating))]
            await true(lambda: "status" in cluster.of(MODEL)[0] and scaling_active(cluster)[0] == "True")
            assert cluster.of(POD) == []

            await gateway.tell(team__qwen=ModelLoad(waiting=1, arrived=1))
            await true(lambda: cluster.of(POD))
            assert f"authorization: Bearer {token}" in gateway.asked[0]
            for task in tasks:
                task.cancel()
            reign.queue.close()

    asyncio.run(story())


def put(cluster: FakeCluster, gateway: StandinGateway) -> None:
    labels = {"kubernetes.io/service-name": "gw"}
    cluster.objects["EndpointSlice", "shoal-system", "gw-a"] = {
        "metadata": {"name": "gw-a", "namespace": "shoal-system", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "internal", "port": gateway.port}],
        "endpoints": [
            {"addresses": ["127.0.0.1"], "targetRef": {"uid": "g"}, "conditions": {"ready": True, "serving": True}}
        ],
    }


def now() -> datetime:
    return datetime.now(UTC)


async def true(fact: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not fact():  # noqa: ASYNC110  (a fact, not an event)
            await asyncio.sleep(0.01)


def test_a_revision_that_gave_up_is_not_tried_again_because_nobody_asked_for_a_while() -> None:
    cluster = settled(a_wish(scaling=BOUNDS | {"minReplicas": 1}))
    wish, good = cluster.of(MODEL)[0], cluster.of(POD)[0]
    told = Told({ID: a_load((0, 0, 1))})

    async def story() -> None:
        reign = Reign(cluster, T0 + timedelta(seconds=5), told)
        spec = {"engine": {"args": ["--no-such-flag"]}, "scaling": {"minReplicas": 0}}
        cluster.change(MODEL, wish, {"spec": spec, "metadata": {"generation": 2}})
        await reign.look()
        record = next(found for found in cluster.of(REVISION) if kinds.revision(found) != kinds.revision(good))
        fault = {labels.FAULT: PERMANENT.to_text()}
        cluster.change(REVISION, record, {"metadata": {"annotations": fault}})
        told.loads[ID] = a_load((0, 0, 1), (6, 0, 0), busy=6)
        await looks(reign, 45)
        assert cluster.of(POD) == []

        told.loads[ID] = a_load((6, 0, 0), (60, 1, 0), busy=60)
        await looks(reign, 10)
        assert [kinds.revision(pod) for pod in cluster.of(POD)] == [kinds.revision(good)]
        reign.queue.close()

    asyncio.run(story())


@pytest.mark.parametrize("spec", [{"replicas": 1}, {"scaling": BOUNDS | {"minReplicas": 1}}, {}])
def test_the_load_in_the_status_changes_every_ten_seconds_at_most_and_is_the_newest_in_the_end(
    spec: dict[str, Any],
) -> None:
    cluster = settled(a_wish(**spec))
    seen = []

    async def story() -> None:
        reign = Reign(cluster)
        await reign.observe()
        world = ClusterWorld(cluster, reign.store, INSTALLATION, MASTER_KEY, lambda: T0)
        md, memory = modeldeployment.read(cluster.of(MODEL)[0]), FRESH
        for second in range(15):
            now, load = T0 + timedelta(seconds=second), a_load((-60, 0, 1), (0, 0, 15 - min(second, 12)))
            outcome = await reconciling.reconcile(md, Grant((), ()), world, now, load, memory)
            md, memory = md.model_copy(update={"status": outcome.status}), outcome.memory
            seen.append((outcome.status.load.in_flight, outcome.plan.look_again_after or 3600.0))

    asyncio.run(story())

    assert [in_flight for in_flight, _ in seen] == [15] * 10 + [5] * 5
    assert all(again <= 10 for _, again in seen[1:10])
    assert seen[-1][1] <= 6, "the last change is told, though nothing else happens"
