"""A new revision on a cluster: what stands beside the old one and for how long, what is looked at first, who waits."""

import asyncio
import copy
from datetime import timedelta
from typing import Any

import pytest

from fake_cluster import FakeCluster
from reigns import Reign, a_wish, settled
from shoal_api import labels
from shoal_operator import kinds
from shoal_operator.api_faults import ApiFault
from shoal_operator.kinds import EVENT, MODEL, POD, PRIORITY_CLASS, REVISION, SECRET, Kind, Manifest

NEW_ARGS = {"engine": {"args": ["-O3"]}}
GPU = {"gpu": 1}
WITH_SECRET = {
    "engine": {"env": [{"name": "HUB", "valueFrom": {"secretKeyRef": {"name": "hub-token", "key": "token"}}}]}
}


def edit(cluster: FakeCluster, spec: dict[str, Any], name: str = "qwen", **metadata: Any) -> None:
    """`kubectl apply` of these parts of the spec."""
    found = cluster.objects["ModelDeployment", "team", name]
    generation = found["metadata"]["generation"] + 1
    cluster.change(MODEL, found, {"spec": spec, "metadata": {"generation": generation, **metadata}})


def progress(cluster: FakeCluster, name: str = "qwen") -> tuple[str, str]:
    """Reason and message of Progressing."""
    status = cluster.objects["ModelDeployment", "team", name]["status"]
    found = next(c for c in status["conditions"] if c["type"] == "Progressing")
    return found["reason"], found["message"]


def pods(cluster: FakeCluster, name: str = "qwen") -> list[Manifest]:
    return [pod for pod in cluster.of(POD) if kinds.label(pod, labels.MODEL) == name]


def surging(cluster: FakeCluster, name: str = "qwen") -> list[Manifest]:
    return [pod for pod in pods(cluster, name) if kinds.annotation(pod, labels.SURGE)]


def look(cluster: FakeCluster, times: int = 1) -> None:
    """An operator begins and looks; nothing starts meanwhile."""

    async def run() -> None:
        reign = Reign(cluster)
        for _ in range(times):
            await reign.look()
        reign.queue.close()

    asyncio.run(run())


def test_a_pod_beside_the_old_ones_has_the_class_that_pushes_nobody_out_and_keeps_it() -> None:
    cluster = settled(a_wish(replicas=2))
    assert [pod["spec"].get("priorityClassName") for pod in pods(cluster)] == [None, None]

    edit(cluster, NEW_ARGS)
    look(cluster)
    (beside,) = surging(cluster)
    assert (len(pods(cluster)), beside["spec"]["priorityClassName"]) == (3, "shoal-surge")

    settled(cluster=cluster)
    assert {kinds.revision(pod) for pod in pods(cluster)} == {kinds.revision(beside)}
    assert len(pods(cluster)) == 2


@pytest.mark.parametrize(("policy", "count"), [("Never", 2), ("PreemptLowerPriority", 1)])
def test_under_a_class_of_its_own_a_model_surges_only_if_that_pushes_nobody_out(policy: str, count: int) -> None:
    cluster = settled(a_wish(replicas=1, scheduling={"priorityClassName": "mine"}))
    mine = {"apiVersion": PRIORITY_CLASS.api_version, "kind": "PriorityClass", "metadata": {"name": "mine"}}
    cluster.objects["PriorityClass", "", "mine"] = mine | {"value": 7, "preemptionPolicy": policy}

    edit(cluster, NEW_ARGS)
    look(cluster)

    staying = [pod for pod in pods(cluster) if not kinds.is_leaving(pod)]
    assert len(staying) == count
    assert {pod["spec"]["priorityClassName"] for pod in pods(cluster)} == {"mine"}
    settled(cluster=cluster)
    assert progress(cluster)[0] == "Complete"


@pytest.mark.parametrize("strategy", ["Auto", "Surge", "DeleteFirst"])
def test_what_is_not_there_is_said_before_an_old_replica_goes(strategy: str) -> None:
    cluster = settled(a_wish(replicas=1, rollout={"strategy": strategy}))
    before = cluster.names(POD)

    edit(cluster, WITH_SECRET)
    look(cluster, times=3)
    assert cluster.names(POD) == before
    reason, message = progress(cluster)
    assert reason == "CannotStart"
    assert 'the Secret "hub-token" is not in namespace team' in message

    async def mended() -> None:
        reign = Reign(cluster)
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hub-token", "namespace": "team"}}
        cluster.objects["Secret", "team", "hub-token"] = secret | {"data": {"token": "eA=="}}
        reign.now += timedelta(seconds=31)
        await reign.settle()

    asyncio.run(mended())
    assert progress(cluster)[0] == "Complete"
    assert cluster.names(POD) != before


def test_another_edit_is_looked_at_too_while_what_was_said_of_the_one_before_is_in_force() -> None:
    cluster = settled(a_wish(replicas=1, rollout={"strategy": "DeleteFirst"}))
    before = cluster.names(POD)

    async def two_edits() -> None:
        reign = Reign(cluster)
        for name in ("hub-token", "hub-tokken"):
            source = {"secretKeyRef": {"name": name, "key": "token"}}
            edit(cluster, {"engine": {"env": [{"name": "HUB", "valueFrom": source}]}})
            for _ in range(3):
                await reign.look()
            reign.now += timedelta(seconds=0.5)
        reign.queue.close()

    asyncio.run(two_edits())

    assert cluster.names(POD) == before
    assert 'the Secret "hub-tokken" is not in namespace team' in progress(cluster)[1]


def test_a_first_revision_is_not_held_up_by_what_is_not_there() -> None:
    cluster = FakeCluster()
    cluster.add(a_wish(replicas=1, **WITH_SECRET))

    look(cluster)

    assert len(pods(cluster)) == 1, "kubelet waits for the Secret, and its words stand in the condition"


def creates(cluster: FakeCluster) -> int:
    return sum(write.startswith("create Pod") for write in cluster.writes)


@pytest.mark.parametrize("strategy", ["Auto", "Surge", "DeleteFirst"])
def test_where_pods_of_both_revisions_are_refused_each_has_its_pause(strategy: str) -> None:
    cluster = settled(a_wish(replicas=1, rollout={"strategy": strategy}))
    refusal = ApiFault(403, "denied by the policy of this cluster")
    edit(cluster, NEW_ARGS)
    cluster.remove(POD, pods(cluster)[0])
    cluster.refuses = lambda method, kind, _pod: refusal if (method, kind) == ("create", POD) else None
    cluster.writes.clear()

    look(cluster, times=12)
    assert creates(cluster) == 2

    cluster.refuses = lambda _method, _kind, _pod: None
    settled(cluster=cluster)
    assert progress(cluster)[0] == "Complete"


@pytest.mark.parametrize("strategy", ["Auto", "Surge", "DeleteFirst"])
def test_what_was_refused_is_refused_still_when_the_old_revision_is_restored(strategy: str) -> None:
    """By a webhook that is not asked beforehand."""
    cluster = settled(a_wish(replicas=1, rollout={"strategy": strategy}))
    old = kinds.revision(pods(cluster)[0])
    refusal = ApiFault(403, "denied by the policy of this cluster")
    edit(cluster, NEW_ARGS)
    cluster.remove(POD, pods(cluster)[0])
    cluster.refuses = lambda method, kind, pod: (
        refusal if (method, kind) == ("create", POD) and kinds.revision(pod) != old else None
    )
    cluster.writes.clear()

    look(cluster, times=12)

    assert [kinds.revision(pod) for pod in pods(cluster)] == [old]
    assert creates(cluster) == 2


@pytest.mark.parametrize("strategy", ["Auto", "Surge", "DeleteFirst"])
def test_what_fits_a_quota_is_restored_where_the_new_revision_does_not_fit(strategy: str) -> None:
    """No old replica is there whose going would make room."""
    cluster = settled(a_wish(replicas=1, rollout={"strategy": strategy}))
    old = kinds.revision(pods(cluster)[0])
    words = "pods is forbidden: exceeded quota: few, requested: limits.memory=64Gi, used: limits.memory=0, "
    too_much = ApiFault(403, f"{words}limited: limits.memory=40Gi")
    edit(cluster, {"resources": {"memory": "64Gi"}})
    cluster.remove(POD, pods(cluster)[0])
    cluster.refuses = lambda method, kind, pod: (
        too_much if method in ("create", "rehearse") and kind == POD and kinds.revision(pod) != old else None
    )
    cluster.writes.clear()

    look(cluster, times=12)

    assert [kinds.revision(pod) for pod in pods(cluster)] == [old]
    assert creates(cluster) == 2


@pytest.mark.parametrize("strategy", ["Auto", "Surge", "DeleteFirst"])
def test_a_replica_that_is_restored_stays_though_it_starts_for_longer_than_a_refusal_lasts(strategy: str) -> None:
    """The new revision is refused, and the only replica of the old one was lost."""
    cluster = settled(a_wish(replicas=1, rollout={"strategy": strategy}))
    old = kinds.revision(pods(cluster)[0])
    refusal = ApiFault(403, "violates PodSecurity restricted")
    edit(cluster, NEW_ARGS)
    cluster.remove(POD, pods(cluster)[0])
    cluster.refuses = lambda method, kind, pod: (
        refusal if method in ("create", "rehearse") and kind == POD and kinds.revision(pod) != old else None
    )

    async def starts() -> set[str]:
        reign = Reign(cluster)
        seen = set()
        for _ in range(60):
            await reign.look()
            await reign.look()
            seen |= {kinds.uid(pod) for pod in pods(cluster)}
            reign.now += timedelta(seconds=7)
        reign.queue.close()
        return seen

    assert len(asyncio.run(starts())) == 1
    assert "violates PodSecurity" in progress(cluster)[1]
    settled(cluster=cluster)
    assert [pod["status"]["phase"] for pod in pods(cluster)] == ["Running"]


def test_what_the_api_server_would_refuse_is_asked_before_an_old_replica_goes() -> None:
    cluster = settled(a_wish(replicas=1, rollout={"strategy": "DeleteFirst"}))
    before = cluster.names(POD)
    refusal = ApiFault(403, "violates PodSecurity restricted")
    cluster.refuses = lambda method, kind, _pod: refusal if (method, kind) == ("rehearse", POD) else None

    edit(cluster, NEW_ARGS)
    look(cluster, times=3)

    assert cluster.names(POD) == before
    assert "violates PodSecurity" in progress(cluster)[1]


def quota(cluster: FakeCluster, most: int) -> None:
    """At most so many pods, draining ones included."""

    def refuses(method: str, kind: Kind, _manifest: Manifest) -> ApiFault | None:
        used = len(cluster.of(POD))
        if method not in ("create", "rehearse") or kind != POD or used < most:
            return None
        return ApiFault(
            403, f"pods is forbidden: exceeded quota: few, requested: pods=1, used: pods={used}, limited: pods={most}"
        )

    cluster.refuses = refuses


@pytest.mark.parametrize("strategy", ["Auto", "DeleteFirst"])
@pytest.mark.parametrize("count", [1, 3])
def test_where_the_quota_is_used_up_old_replicas_go_first_one_by_one(strategy: str, count: int) -> None:
    cluster = settled(a_wish(replicas=count, rollout={"strategy": strategy}))
    quota(cluster, most=count)
    old = {kinds.revision(pod) for pod in pods(cluster)}
    least = count

    async def roll() -> None:
        nonlocal least
        reign = Reign(cluster)
        edit(cluster, NEW_ARGS)
        for _ in range(40):
            await reign.look()
            serving = [pod for pod in pods(cluster) if pod["status"].get("phase") == "Running"]
            least = min(least, sum(not kinds.is_leaving(pod) for pod in serving))
            cluster.run_pods()
            reign.now += timedelta(seconds=1)
        reign.queue.close()

    asyncio.run(roll())

    assert progress(cluster)[0] == "Complete"
    assert old.isdisjoint({kinds.revision(pod) for pod in pods(cluster)})
    assert least == count - 1


def test_a_quota_that_is_too_small_for_the_new_revision_takes_no_old_one_away() -> None:
    cluster = settled(a_wish(replicas=1, rollout={"strategy": "DeleteFirst"}))
    before = cluster.names(POD)
    words = "pods is forbidden: exceeded quota: few, requested: limits.memory=64Gi, used: limits.memory=32Gi, "
    too_much = ApiFault(403, f"{words}limited: limits.memory=40Gi")
    cluster.refuses = lambda method, kind, _pod: too_much if (method, kind) == ("rehearse", POD) else None

    edit(cluster, {"resources": {"memory": "64Gi"}})
    look(cluster, times=3)

    assert cluster.names(POD) == before
    assert "the quota few allows" in progress(cluster)[1]


def test_two_models_of_one_pool_surge_one_after_the_other_and_both_come_to_their_end() -> None:
    cluster = settled(a_wish("a", replicas=1, resources=GPU), a_wish("b", replicas=1, resources=GPU))
    most = 0

    async def roll() -> None:
        nonlocal most
        reign = Reign(cluster)
        for name in "ab":
            edit(cluster, NEW_ARGS, name)
        await reign.look()
        assert [len(surging(cluster, name)) for name in "ab"] == [1, 0]
        assert "team/a replaces replicas on nodes of the same kind first" in progress(cluster, "b")[1]
        for _ in range(20):
            together = [name for name in "ab" if len(pods(cluster, name)) > 1]
            most = max(most, len(together))
            cluster.run_pods()
            await reign.look()
        reign.queue.close()

    asyncio.run(roll())

    assert most == 1
    assert [progress(cluster, name)[0] for name in "ab"] == ["Complete", "Complete"]


def test_models_without_gpus_wait_for_nobody() -> None:
    cluster = settled(a_wish("a", replicas=1, resources={"gpu": 0}), a_wish("b", replicas=1, resources={"gpu": 0}))

    for name in "ab":
        edit(cluster, NEW_ARGS, name)
    look(cluster)

    assert [len(surging(cluster, name)) for name in "ab"] == [1, 1]


def test_a_canary_waits_for_its_owner_also_across_operators() -> None:
    cluster = settled(a_wish(replicas=3, rollout={"canary": {"replicas": 1}}))
    assert progress(cluster)[0] == "Complete", "a first revision is no canary"

    edit(cluster, NEW_ARGS)
    settled(cluster=cluster)
    settled(cluster=cluster)
    reason, message = progress(cluster)
    assert reason == "CanaryWaits"
    assert "shoal rollout promote qwen -n team" in message
    revision = cluster.of(MODEL)[0]["status"]["revision"]
    assert [kinds.revision(pod) == revision for pod in pods(cluster)].count(True) == 1
    assert len(pods(cluster)) == 3

    edit(cluster, {}, annotations={labels.PROMOTED: revision})
    settled(cluster=cluster)
    assert {kinds.revision(pod) for pod in pods(cluster)} == {revision}
    assert progress(cluster)[0] == "Complete"
    assert not any(kinds.annotation(record, labels.CANARY) for record in cluster.of(REVISION))


def test_a_record_of_an_earlier_version_is_taken_as_it_is() -> None:
    cluster = settled(a_wish(replicas=1))
    del cluster.of(REVISION)[0]["data"]["madeFrom"]
    before = copy.deepcopy((cluster.of(REVISION), cluster.names(POD)))

    settled(cluster=cluster)

    assert (cluster.of(REVISION), cluster.names(POD)) == before
    assert cluster.of(SECRET)
    assert all(event["type"] == "Normal" for event in cluster.of(EVENT))


def test_the_revision_beside_canaries_is_kept_however_many_of_them_came_and_went() -> None:
    cluster = settled(a_wish(replicas=1, rollout={"canary": {"replicas": 1}}))
    first = kinds.revision(pods(cluster)[0])
    for number in range(12):
        edit(cluster, {"engine": {"args": [f"--seed={number}"]}})
        settled(cluster=cluster)
    for replicas in (0, 2):
        edit(cluster, {"replicas": replicas})
        settled(cluster=cluster)

    assert progress(cluster)[0] == "CanaryWaits"
    assert first in {kinds.revision(pod) for pod in pods(cluster)}
