"""What is told when a wish cannot be met: a condition and an Event with a sentence, and what runs goes on."""

import asyncio
import copy
from datetime import timedelta
from typing import Any

import pytest

from facts import DEADLINE_SECONDS
from fake_cluster import FakeCluster, condition, events, running
from reigns import INSTALLATION, MASTER_KEY, Reign, a_wish, settled
from shoal_api import labels, modeldeployment
from shoal_api.naming import Grant
from shoal_operator import reconciling, rendering
from shoal_operator.api_faults import ApiFault
from shoal_operator.cluster_world import ClusterWorld
from shoal_operator.kinds import (
    MODEL,
    POD,
    REVISION,
    Manifest,
)

REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"model": {"source": "nonsense"}}, "InvalidSpec", "spec.model.source"),
    ({"model": {"source": "file:///etc"}}, "InvalidSpec", "spec.model.source"),
    ({"typo": 1}, "InvalidSpec", "spec.typo: there is no such field"),
]


@pytest.mark.parametrize(("spec", "reason", "words"), REFUSED)
def test_a_bad_spec_is_a_condition_and_an_event_and_what_runs_goes_on(
    spec: dict[str, Any], reason: str, words: str
) -> None:
    cluster = settled(a_wish(replicas=1))
    pods = cluster.names(POD)
    good = copy.deepcopy(cluster.of(MODEL)[0]["spec"])

    cluster.change(MODEL, cluster.of(MODEL)[0], {"spec": spec, "metadata": {"generation": 2}})
    settled(cluster=cluster)
    status, said, message = condition(cluster)
    assert (status, said) == ("False", reason)
    assert words in message
    assert ("Warning", reason, 1) in events(cluster)
    assert cluster.names(POD) == pods

    cluster.objects["ModelDeployment", "team", "qwen"]["spec"] = good
    cluster.change(MODEL, cluster.of(MODEL)[0], {"metadata": {"generation": 3}})
    settled(cluster=cluster)
    assert condition(cluster)[0] == "True"
    assert cluster.names(POD) == pods


def test_a_refused_pod_is_tried_again_later_and_says_why() -> None:
    cluster = FakeCluster()
    cluster.add(a_wish(replicas=1))
    quota = ApiFault(403, "exceeded quota: gpus, requested: 1, used: 4, limited: 4")
    cluster.refuses = lambda method, kind, _manifest: quota if (method, kind) == ("create", POD) else None

    async def story() -> None:
        reign = Reign(cluster)
        await reign.look()
        assert condition(cluster)[:2] == ("False", "CannotStart")
        assert "exceeded quota" in condition(cluster)[2]
        tried = len(cluster.writes)
        await reign.look()
        assert len(cluster.writes) == tried, "it is not asked again at once"

        cluster.refuses = lambda _method, _kind, _manifest: None
        reign.now += timedelta(seconds=2)
        await reign.look()
        cluster.run_pods()
        await reign.look()
        reign.queue.close()

    asyncio.run(story())

    assert condition(cluster)[0] == "True"


def test_a_pod_that_is_refused_again_with_the_same_words_is_looked_at_again_without_any_news() -> None:
    """Then nothing changes: no pod is made, and the status says already what it has to say."""
    cluster = FakeCluster()
    md = modeldeployment.read(cluster.add(a_wish(replicas=1)))
    revision, again = rendering.revision(md), list[float | None]()
    quota = ApiFault(403, "exceeded quota: gpus, requested: 1, used: 4, limited: 4")
    cluster.refuses = lambda method, kind, _manifest: quota if (method, kind) == ("create", POD) else None

    async def story() -> None:
        nonlocal md
        reign = Reign(cluster)
        await reign.observe()
        world = ClusterWorld(cluster, reign.store, INSTALLATION, MASTER_KEY, lambda: reign.now)
        await world.tend(md, revision)
        for _ in range(4):
            outcome = await reconciling.reconcile(md, Grant((), ()), world, reign.now)
            again.append(outcome.plan.look_again_after)
            md = md.model_copy(update={"status": outcome.status})
            reign.now += timedelta(seconds=10)

    asyncio.run(story())

    assert again == [1.0, 2.0, 4.0, 8.0]


def test_a_gang_that_a_quota_lets_in_by_half_is_not_made_and_deleted_over_and_over() -> None:
    """While a pod of an earlier gang drains: that this one is gone may help, not that the half gang is."""
    cluster = settled(a_wish(replicas=1, parallelism={"tensor": 2, "pipeline": 2}, resources={"gpu": 2}))
    first, second = cluster.of(POD)
    cluster.remove(POD, first)
    cluster.change(POD, second, {"metadata": {"deletionTimestamp": "2026-11-21T12:10:00Z"}})
    words = "pods is forbidden: exceeded quota: few, requested: pods=1, used: pods=2, limited: pods=2"
    cluster.refuses = lambda method, kind, _pod: (
        ApiFault(403, words) if (method, kind) == ("create", POD) and len(cluster.of(POD)) >= 2 else None
    )
    cluster.writes.clear()

    async def story() -> None:
        reign = Reign(cluster)
        for _ in range(9):
            await reign.look()
        reign.queue.close()

    asyncio.run(story())

    assert sum(write.startswith("create Pod") for write in cluster.writes) == 2
    assert cluster.names(POD) == [second["metadata"]["name"]]


def test_the_younger_claimant_of_a_name_is_told_and_gets_it_when_it_is_free() -> None:
    cluster = settled(
        a_wish("old", model={"source": "file:///models/a", "names": ["gpt"]}),
        a_wish("young", created="2026-11-21T12:00:30Z", model={"source": "file:///models/a", "names": ["gpt", "mine"]}),
    )
    assert condition(cluster, "NamesGranted", "young")[:2] == ("False", "NameTaken")
    assert cluster.objects["ModelDeployment", "team", "young"]["status"]["names"] == ["mine"]

    async def story() -> None:
        reign = Reign(cluster)
        await reign.look()
        old = cluster.objects["ModelDeployment", "team", "old"]
        cluster.remove(MODEL, old)
        reign.store.lost(MODEL, old)
        await reign.operating.look_at("uid-old")
        async with asyncio.timeout(DEADLINE_SECONDS):
            taken = await reign.queue.take()
        assert taken == "uid-young"
        await reign.operating.look_at(taken)
        reign.queue.close()

    asyncio.run(story())

    assert cluster.objects["ModelDeployment", "team", "young"]["status"]["names"] == ["gpt", "mine"]


def test_a_claimant_that_is_leaving_waits_for_no_name() -> None:
    cluster = settled(
        a_wish("old", model={"source": "file:///models/a", "names": ["gpt"]}),
        a_wish("young", created="2026-11-21T12:00:30Z", model={"source": "file:///models/a", "names": ["gpt"]}),
    )

    async def story() -> None:
        reign = Reign(cluster)
        await reign.look()
        young = cluster.objects["ModelDeployment", "team", "young"]
        leaving = cluster.change(MODEL, young, {"metadata": {"deletionTimestamp": "2026-11-21T12:02:00Z"}})
        reign.store.saw(MODEL, leaving)
        reign.store.lost(MODEL, cluster.objects["ModelDeployment", "team", "old"])
        await reign.operating.look_at("uid-old")
        await reign.operating.look_at("uid-young")
        assert len(reign.queue) == 0, "two that are going do not wake each other for ever"
        reign.queue.close()

    asyncio.run(story())


def test_a_permanent_fault_stops_the_tries_and_an_edit_begins_anew() -> None:
    cluster = FakeCluster()
    cluster.add(a_wish(replicas=1))

    def give_up(pod: Manifest) -> None:
        ended = {"exitCode": 78, "message": "[permanent] --no-such-flag is unknown: remove it", "finishedAt": at}
        status = running(ready=False)
        status["containerStatuses"][0] |= {"state": {"waiting": {}}, "lastState": {"terminated": ended}}
        cluster.change(POD, pod, {"status": status})

    at = "2026-11-21T12:00:20Z"

    async def story() -> None:
        reign = Reign(cluster)
        await reign.look()
        give_up(cluster.of(POD)[0])
        await reign.look()
        for _ in range(3):
            cluster.run_pods()
            await reign.look()
        reign.queue.close()

    asyncio.run(story())
    assert cluster.of(POD) == []
    assert condition(cluster) == ("False", "CannotStart", "--no-such-flag is unknown: remove it")
    assert cluster.of(REVISION)[0]["metadata"]["annotations"][labels.FAULT].startswith("[permanent]")
    assert ("Warning", "CannotStart", 1) in events(cluster)

    cluster.change(MODEL, cluster.of(MODEL)[0], {"spec": {"engine": {"args": ["-O3"]}}, "metadata": {"generation": 2}})
    settled(cluster=cluster)
    assert condition(cluster)[0] == "True"
