"""What the operator makes for a model, and what belongs to somebody else."""

import asyncio
import copy

import pytest

from fake_cluster import FakeCluster, condition
from reigns import Reign, a_wish, model_uid, settled
from shoal_api import labels
from shoal_operator.kinds import (
    MADE,
    MODEL,
    POD,
    REVISION,
    SECRET,
    SERVICE,
    Kind,
)


def test_everything_made_has_its_owner_and_no_finalizer() -> None:
    cluster = settled(a_wish(replicas=1))

    for kind in (*MADE, SECRET):
        assert cluster.of(kind)
        for found in cluster.of(kind):
            assert found["metadata"]["ownerReferences"][0]["uid"] == model_uid(cluster)
            assert "finalizers" not in found["metadata"]
    assert "finalizers" not in cluster.of(MODEL)[0]["metadata"]
    assert "annotations" not in cluster.of(MODEL)[0]["metadata"]


def test_a_deleted_service_is_made_again_and_a_changed_one_is_set_right() -> None:
    cluster = settled(a_wish(replicas=1))
    service = copy.deepcopy(cluster.of(SERVICE)[0])
    cluster.remove(SERVICE, service)
    settled(cluster=cluster)
    assert cluster.of(SERVICE)[0]["spec"] == service["spec"]

    cluster.change(SERVICE, service, {"spec": {"selector": {labels.RANK: "1"}}, "metadata": {"labels": {"team": "a"}}})
    settled(cluster=cluster)

    assert cluster.of(SERVICE)[0]["spec"] == service["spec"]
    assert cluster.of(SERVICE)[0]["metadata"]["labels"]["team"] == "a"


def with_replicas(cluster: FakeCluster, count: int) -> FakeCluster:
    cluster.change(MODEL, cluster.of(MODEL)[0], {"spec": {"replicas": count}, "metadata": {"generation": count}})
    return settled(cluster=cluster)


def test_a_models_secret_is_written_once_however_many_pods_are_made() -> None:
    cluster = with_replicas(settled(a_wish(replicas=1)), 3)

    assert len(cluster.of(POD)) == 3
    assert cluster.writes.count("apply Secret qwen-shoal") == 1


def test_before_a_pod_is_made_a_secret_that_is_gone_or_changed_is_set_right() -> None:
    cluster = settled(a_wish(replicas=1))
    secret = copy.deepcopy(cluster.of(SECRET)[0])
    cluster.remove(SECRET, secret)
    with_replicas(cluster, 2)
    assert cluster.of(SECRET)[0]["data"] == secret["data"]

    cluster.change(SECRET, secret, {"data": {"model-key": "bm9uZQ=="}})
    with_replicas(cluster, 3)

    assert cluster.of(SECRET)[0]["data"] == secret["data"]
    last = [write for write in cluster.writes if " Secret " in write or write.startswith("create Pod")][-2:]
    assert last == ["apply Secret qwen-shoal", "create Pod " + cluster.names(POD)[-1]]


@pytest.mark.parametrize("kind", [SERVICE, SECRET, REVISION])
def test_what_belongs_to_somebody_else_is_not_adopted(kind: Kind) -> None:
    example = settled(a_wish(replicas=1)).of(kind)[0]
    cluster = FakeCluster()
    foreign = {
        "apiVersion": kind.api_version,
        "kind": kind.name,
        "metadata": {"name": example["metadata"]["name"], "namespace": "team", "uid": "foreign"},
    }
    cluster.version += 1
    foreign["metadata"]["resourceVersion"] = str(cluster.version)  # type: ignore[index]
    cluster.objects[kind.name, "team", example["metadata"]["name"]] = copy.deepcopy(foreign)

    settled(a_wish(replicas=1), cluster=cluster)

    assert cluster.objects[kind.name, "team", example["metadata"]["name"]] == foreign
    assert cluster.of(POD) == []
    status, reason, message = condition(cluster)
    assert (status, reason) == ("False", "NameOccupied")
    assert f"{kind.name} '{example['metadata']['name']}'" in message

    del cluster.objects[kind.name, "team", example["metadata"]["name"]]
    settled(cluster=cluster)
    assert condition(cluster)[0] == "True"


def test_a_pod_of_somebody_else_is_passed_over() -> None:
    name = settled(a_wish(replicas=1)).names(POD)[0]
    cluster = FakeCluster()
    cluster.add({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "team"}})

    async def work() -> None:
        reign = Reign(cluster)
        cluster.add(a_wish(replicas=1))
        for _ in range(5):
            await reign.look()
            cluster.run_pods()
        reign.queue.close()

    asyncio.run(work())

    assert cluster.names(POD) == [name, name.removesuffix("0") + "1"]
    assert condition(cluster)[0] == "True"


def test_a_model_made_anew_while_the_old_ones_pods_drain_gets_replicas_of_its_own() -> None:
    cluster = settled(a_wish(replicas=1, uid="old"))
    old = cluster.of(POD)[0]
    for kind in (MODEL, SERVICE, REVISION):
        for found in cluster.of(kind):
            cluster.remove(kind, found)
    del cluster.objects["ServiceAccount", "team", "qwen-shoal"], cluster.objects["Secret", "team", "qwen-shoal"]
    cluster.change(POD, old, {"metadata": {"deletionTimestamp": "2026-11-21T12:10:00Z"}})
    cluster.add(a_wish(replicas=1, uid="new"))

    async def work() -> None:
        reign = Reign(cluster)
        await reign.look()
        reign.queue.close()

    asyncio.run(work())

    assert len(cluster.of(POD)) == 2
    assert cluster.of(MODEL)[0]["status"]["replicas"] == 1
