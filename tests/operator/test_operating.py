"""What one reign does with what it sees: nothing where nothing changed, and a sentence for every refusal."""

import asyncio
import base64
import copy
from datetime import timedelta
from typing import Any

import pytest

from fake_cluster import FakeCluster, running
from reigns import MASTER_KEY, T0, Reign, a_wish, model_uid, settled
from shoal_api import labels, proof
from shoal_operator import lease_holding
from shoal_operator.api_faults import ApiFault, NotLeading
from shoal_operator.kinds import (
    EVENT,
    MADE,
    MODEL,
    POD,
    REVISION,
    SECRET,
    SERVICE,
    SERVICE_ACCOUNT,
    Kind,
    Manifest,
    name,
)


def condition(cluster: FakeCluster, kind: str = "Ready", name: str = "qwen") -> tuple[str, str, str]:
    """Status, reason and message of one of the model's conditions."""
    status = cluster.objects["ModelDeployment", "team", name]["status"]
    found = next(c for c in status["conditions"] if c["type"] == kind)
    return found["status"], found["reason"], found["message"]


def events(cluster: FakeCluster) -> list[tuple[str, str, int]]:
    return [(event["type"], event["reason"], event["count"]) for event in cluster.of(EVENT)]


def test_a_hundred_events_without_a_change_are_no_write() -> None:
    cluster = settled(a_wish(replicas=2))
    before = list(cluster.writes)

    async def repeat() -> Reign:
        reign = Reign(cluster)
        await reign.observe()
        for _ in range(100):
            for kind in (MODEL, *MADE):
                for found in cluster.of(kind):
                    reign.store.saw(kind, copy.deepcopy(found))
            await reign.operating.look_at(model_uid(cluster))
        return reign

    asyncio.run(repeat())

    assert cluster.writes == before


def test_a_look_at_what_is_at_rest_asks_the_api_server_nothing() -> None:
    cluster = settled(a_wish(replicas=2))

    async def look() -> int:
        reign = Reign(cluster)
        await reign.observe()
        before = cluster.reads
        await reign.operating.look_at(model_uid(cluster))
        return cluster.reads - before

    assert asyncio.run(look()) == 0


def test_another_reign_begins_without_a_write() -> None:
    cluster = settled(a_wish(replicas=2), a_wish("llama", uid="other"))
    before = list(cluster.writes)

    settled(cluster=cluster)

    assert cluster.writes == before


def test_an_operator_with_another_master_key_writes_every_models_keys_anew_and_touches_no_pod() -> None:
    cluster = settled(a_wish(replicas=1), a_wish("llama", uid="other", replicas=0))
    before, pods, writes = cluster.of(SECRET), cluster.of(POD), len(cluster.writes)
    other = bytes(reversed(MASTER_KEY))

    settled(cluster=cluster, master_key=other)

    after = cluster.of(SECRET)
    assert [name(found) for found in after] == [name(found) for found in before] == ["llama-shoal", "qwen-shoal"]
    for old, new, uid in zip(before, after, ("other", "uid-qwen"), strict=True):
        assert base64.b64decode(new["data"]["model-key"]).decode() == proof.model_key(other, uid).hex()
        assert not set(old["data"].values()) & set(new["data"].values())
    assert cluster.of(POD) == pods
    written = len(cluster.writes)
    assert written > writes
    settled(cluster=cluster, master_key=other)
    assert len(cluster.writes) == written, "and once is enough"


def test_stale_facts_change_nothing() -> None:
    """The watch has not told yet that the pods are there: what is there is asked for, not what was told."""
    cluster = settled(a_wish(replicas=2))

    async def look() -> None:
        reign = Reign(cluster)
        for kind in (MODEL, SERVICE, SERVICE_ACCOUNT, REVISION):
            listing = await cluster.find_all(kind, None)
            reign.store.replace(kind, listing.objects, listing.version)
        await reign.operating.look_at(model_uid(cluster))

    before = [w for w in cluster.writes if " Pod " in w]
    asyncio.run(look())

    assert [w for w in cluster.writes if " Pod " in w] == before


@pytest.mark.parametrize(("is_ready", "grace_seconds"), [(True, None), (False, 10)])
def test_a_replica_that_still_starts_gets_no_time_to_drain(is_ready: bool, grace_seconds: int | None) -> None:
    cluster = settled(a_wish(replicas=2))
    gone = cluster.of(POD)[1]
    if not is_ready:
        cluster.change(POD, gone, {"status": running(ready=False)})
    cluster.change(MODEL, cluster.of(MODEL)[0], {"spec": {"replicas": 1}, "metadata": {"generation": 2}})

    settled(cluster=cluster)

    assert cluster.graces == {gone["metadata"]["name"]: grace_seconds}


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


class Clockwork(asyncio.SelectorEventLoop):
    """A loop whose clock can be moved."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


def test_a_look_while_the_lease_is_in_doubt_is_taken_again() -> None:
    cluster = FakeCluster()
    cluster.add(a_wish(replicas=1))

    def in_doubt(_method: str, _kind: Kind, _manifest: Manifest) -> ApiFault | None:
        raise NotLeading

    async def story() -> None:
        reign, loop = Reign(cluster), asyncio.get_running_loop()
        assert isinstance(loop, Clockwork)
        cluster.refuses, sure = in_doubt, cluster.refuses
        await reign.look()
        assert cluster.of(POD) == []
        assert len(reign.queue) == 0

        cluster.refuses = sure
        loop.ahead += lease_holding.RENEW_SECONDS
        async with asyncio.timeout(1):
            uid = await reign.queue.take()
        await reign.operating.look_at(uid)
        assert len(cluster.of(POD)) == 1
        reign.queue.close()

    with asyncio.Runner(loop_factory=Clockwork) as runner:
        runner.run(story())


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
        async with asyncio.timeout(1):
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


def test_the_numbers_of_a_deleted_model_go_and_those_of_its_successor_stay() -> None:
    cluster = settled(a_wish("gone"), a_wish("stays"))

    async def story() -> None:
        reign = Reign(cluster)
        await reign.look()
        assert b'model="team/gone"' in reign.metrics.text()
        gone = cluster.objects["ModelDeployment", "team", "gone"]
        cluster.remove(MODEL, gone)
        cluster.add(a_wish("gone", uid="uid-again"))
        await reign.observe()
        await reign.operating.look_at("uid-again")
        await reign.operating.look_at("uid-gone")
        assert b'model="team/gone"' in reign.metrics.text(), "another model has the name by now"
        again = cluster.objects["ModelDeployment", "team", "gone"]
        reign.store.lost(MODEL, again)
        await reign.operating.look_at("uid-again")
        assert b'model="team/gone"' not in reign.metrics.text()
        assert b'model="team/stays"' in reign.metrics.text()
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


def test_an_upgraded_operator_makes_a_lost_pod_from_the_kept_template() -> None:
    cluster = settled(a_wish(replicas=1))
    record = cluster.of(REVISION)[0]
    record["data"]["template"]["spec"]["containers"][0]["image"] = "shoal/engine:0"
    cluster.remove(POD, cluster.of(POD)[0])

    settled(cluster=cluster)

    assert cluster.of(POD)[0]["spec"]["containers"][0]["image"] == "shoal/engine:0"


def test_going_back_to_an_older_revision_makes_it_the_newest_wish() -> None:
    cluster = settled(a_wish(replicas=1))
    first = cluster.names(REVISION)
    cluster.change(MODEL, cluster.of(MODEL)[0], {"spec": {"engine": {"args": ["-O3"]}}})
    settled(cluster=cluster)
    cluster.change(MODEL, cluster.of(MODEL)[0], {"spec": {"engine": {"args": []}}})
    settled(cluster=cluster)

    numbers = {record["metadata"]["name"]: record["revision"] for record in cluster.of(REVISION)}
    assert numbers[first[0]] == 3
    assert sorted(numbers.values()) == [2, 3]


def test_a_pod_on_a_node_that_never_answers_stops_nobody() -> None:
    cluster = settled(a_wish(replicas=1, rollout={"strategy": "DeleteFirst"}))
    stuck = cluster.of(POD)[0]
    cluster.change(POD, stuck, {"metadata": {"deletionTimestamp": "2026-11-21T12:00:10Z"}})

    async def story() -> None:
        reign = Reign(cluster, T0 + timedelta(minutes=5))
        for _ in range(3):
            await reign.look()
            for pod in cluster.of(POD):
                if "deletionTimestamp" not in pod["metadata"]:
                    cluster.change(POD, pod, {"status": running()})
        reign.queue.close()

    asyncio.run(story())

    assert len(cluster.of(POD)) == 2
    assert cluster.of(MODEL)[0]["status"]["readyReplicas"] == 1
    assert cluster.of(MODEL)[0]["status"]["replicas"] == 1
