"""What one reign does with what it sees, and that it does nothing where nothing changed."""

import asyncio
import base64
import copy
from datetime import timedelta

import pytest

from fake_cluster import FakeCluster, condition, running
from reigns import MASTER_KEY, T0, Reign, a_wish, model_uid, settled
from shoal_api import proof
from shoal_operator import lease_holding
from shoal_operator.api_faults import ApiFault, NotLeading
from shoal_operator.kinds import (
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
        for _ in range(100):  # what is due now comes in these turns of the loop, however long they take
            await asyncio.sleep(0)
        assert len(reign.queue) == 1
        uid = await reign.queue.take()
        await reign.operating.look_at(uid)
        assert len(cluster.of(POD)) == 1
        reign.queue.close()

    with asyncio.Runner(loop_factory=Clockwork) as runner:
        runner.run(story())


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


def test_an_upgraded_operator_makes_a_lost_pod_from_the_kept_template() -> None:
    cluster = settled(a_wish(replicas=1))
    record = cluster.of(REVISION)[0]
    record["data"]["template"]["spec"]["containers"][0]["image"] = "shoal/engine:0"
    cluster.remove(POD, cluster.of(POD)[0])

    settled(cluster=cluster)

    assert cluster.of(POD)[0]["spec"]["containers"][0]["image"] == "shoal/engine:0"


def test_what_a_newer_operator_has_told_takes_no_model_away() -> None:
    cluster = settled(a_wish(replicas=1))
    model = cluster.of(MODEL)[0]
    newer = {"type": "Quantized", "status": "True", "reason": "Int4", "lastTransitionTime": "2026-11-21T12:00:00Z"}
    model["status"]["conditions"].append(newer)
    model["status"]["energy"] = {"watts": 300}
    pods = cluster.names(POD)

    settled(cluster=cluster)

    assert condition(cluster) == ("True", "ReplicasReady", "1 of 1 replicas answer")
    assert cluster.of(MODEL)[0]["status"]["names"] == ["qwen"]
    assert cluster.names(POD) == pods


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
