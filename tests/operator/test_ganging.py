"""Gangs: at most one looks for nodes in a pool, one that looks too long lets go, a lost pod replaces the whole."""

import asyncio
from datetime import datetime, timedelta

import pytest

from builders import a_model
from fake_cluster import FakeCluster, running
from reigns import T0, Reign, a_wish
from shoal_api import labels
from shoal_operator import ganging, kinds
from shoal_operator.ganging import PendingGang, Release
from shoal_operator.kinds import MODEL, POD, Manifest, label

GANG = {"parallelism": {"tensor": 2, "pipeline": 2}, "resources": {"gpu": 2}}
MD = a_model("mine", **GANG)
POOL = ganging.pool(MD)


def gang(model: str, seconds_ago: float, pool: ganging.Pool = POOL) -> PendingGang:
    return PendingGang(f"default/{model}", f"{model}-0", pool, T0 - timedelta(seconds=seconds_ago))


def a_release(seconds_left: float) -> Release:
    return Release(1, T0 + timedelta(seconds=seconds_left), T0 - timedelta(seconds=30), T0 - timedelta(minutes=3), "r1")


RULINGS = [
    ("nobody looks for nodes", [], None, 1, ()),
    ("another looks in this pool", [gang("other", 5)], None, 0, ()),
    ("another looks in another pool", [gang("other", 5, ("amd.com/gpu", ()))], None, 1, ()),
    ("its own looks", [gang("mine", 5)], None, 0, ()),
    ("its own looks for too long", [gang("mine", 121)], None, 0, ("mine-0",)),
    ("it let go a moment ago", [], a_release(30), 0, ()),
    ("its pause is over", [], a_release(0), 1, ()),
    ("two at once: the younger lets go", [gang("other", 9), gang("mine", 5)], None, 0, ("mine-0",)),
    ("two at once: the older stays", [gang("other", 5), gang("mine", 9)], None, 0, ()),
]


@pytest.mark.parametrize(("why", "pending", "release", "may_make", "let_go"), RULINGS)
def test_the_ruling(
    why: str, pending: list[PendingGang], release: Release | None, may_make: int, let_go: tuple[str, ...]
) -> None:
    ruling = ganging.rule(MD, pending, release, T0)

    assert (ruling.may_make, ruling.let_go) == (may_make, let_go)
    assert (ruling.held is None) == (may_make > 0)


def test_the_pause_after_a_release_doubles_up_to_a_limit() -> None:
    pauses, release, now = [], None, T0
    for _ in range(7):
        release = ganging.after_release(release, now - timedelta(seconds=121), "r1", now)
        pauses.append((release.until - now).total_seconds())

    assert pauses == [30, 60, 120, 240, 480, 600, 600]


def test_a_scheduler_of_the_owners_choice_is_left_to_its_ways() -> None:
    assert ganging.is_ruled(MD)
    assert not ganging.is_ruled(a_model("mine", scheduling={"schedulerName": "gang-scheduler"}, **GANG))
    assert not ganging.is_ruled(a_model("mine"))


class Nodes:
    """A cluster in which pods get nodes when the test says so; time is the test's."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.now = T0
        self.reign = Reign(self.cluster)

    async def look(self, at: datetime) -> None:
        self.reign.now = at
        for pod in self.cluster.of(POD):
            if pod["metadata"]["creationTimestamp"] == "2026-11-21T12:00:00Z":
                stamp = at.isoformat().replace("+00:00", "Z")
                self.cluster.change(POD, pod, {"metadata": {"creationTimestamp": stamp}})
        await self.reign.look()

    def schedule(self, pod: Manifest) -> None:
        self.cluster.change(POD, pod, {"spec": {"nodeName": "n1"}, "status": running()})

    def of(self, model: str) -> list[Manifest]:
        return [
            pod
            for pod in self.cluster.of(POD)
            if label(pod, labels.MODEL) == model and "deletionTimestamp" not in pod["metadata"]
        ]


def test_two_gangs_never_hold_half_of_the_nodes_each() -> None:
    async def story() -> None:
        place = Nodes()
        place.cluster.add(a_wish("one", **GANG))
        place.cluster.add(a_wish("two", **GANG))
        await place.look(T0)
        await place.look(T0 + timedelta(seconds=1))
        first, second = ("one", "two") if place.of("one") else ("two", "one")
        assert (len(place.of(first)), len(place.of(second))) == (2, 0)
        waits = place.cluster.objects["ModelDeployment", "team", second]["status"]["conditions"][0]
        assert f"(team/{first}) look for nodes of the same kind first" in waits["message"]

        place.schedule(place.of(first)[0])
        await place.look(T0 + timedelta(seconds=60))
        assert (len(place.of(first)), len(place.of(second))) == (2, 0)

        await place.look(T0 + timedelta(seconds=125))
        await place.look(T0 + timedelta(seconds=131))
        assert (len(place.of(first)), len(place.of(second))) == (0, 2), "it let go, and the other has its turn"

        for pod in place.of(second):
            place.schedule(pod)
        await place.look(T0 + timedelta(seconds=140))
        assert len(place.of(first)) == 0, "its pause is not over"
        await place.look(T0 + timedelta(seconds=170))
        assert (len(place.of(first)), len(place.of(second))) == (2, 2)
        place.reign.queue.close()

    asyncio.run(story())


@pytest.mark.parametrize("rank", [0, 1])
def test_a_lost_pod_replaces_the_whole_gang(rank: int) -> None:
    async def story() -> None:
        place = Nodes()
        place.cluster.add(a_wish("one", **GANG))
        await place.look(T0)
        before = place.of("one")
        for pod in before:
            place.schedule(pod)
        await place.look(T0 + timedelta(seconds=10))
        assert place.cluster.of(MODEL)[0]["status"]["readyReplicas"] == 1

        place.cluster.remove(POD, place.of("one")[rank])
        await place.look(T0 + timedelta(seconds=20))
        await place.look(T0 + timedelta(seconds=21))
        names = {pod["metadata"]["uid"] for pod in place.of("one")}
        assert len(names) == 2
        assert not names & {pod["metadata"]["uid"] for pod in before}
        place.reign.queue.close()

    asyncio.run(story())


def test_a_gang_that_let_go_keeps_to_its_pause_though_another_of_its_model_runs() -> None:
    async def story() -> None:
        place = Nodes()
        place.cluster.add(a_wish("one", replicas=1, **GANG))
        await place.look(T0)
        for pod in place.of("one"):
            place.schedule(pod)
        await place.look(T0 + timedelta(seconds=5))
        wish = place.cluster.objects["ModelDeployment", "team", "one"]
        place.cluster.change(MODEL, wish, {"spec": {"replicas": 2}, "metadata": {"generation": 2}})
        place.cluster.add(a_wish("two", **GANG))
        await place.look(T0 + timedelta(seconds=10))
        await place.look(T0 + timedelta(seconds=11))
        assert (len(place.of("one")), len(place.of("two"))) == (4, 0), "its second looks for nodes"

        place.reign.now = T0 + timedelta(seconds=132)
        for _ in range(3):  # its pods that go call for looks at it alone
            await place.reign.observe()
            await place.reign.operating.look_at("uid-one")
        await place.look(T0 + timedelta(seconds=136))
        assert (len(place.of("one")), len(place.of("two"))) == (2, 2), "its second let go, and the other has its turn"
        place.reign.queue.close()

    asyncio.run(story())


@pytest.mark.parametrize("strategy", ["Auto", "DeleteFirst"])
def test_gangs_of_a_new_revision_that_never_find_nodes_have_until_the_deadline_together(strategy: str) -> None:
    async def story() -> None:
        place = Nodes()
        rollout = {"strategy": strategy, "startDeadlineSeconds": 600}
        place.cluster.add(a_wish("one", replicas=1, rollout=rollout, **GANG))
        await place.look(T0)
        old = {kinds.revision(pod) for pod in place.of("one")}
        at = 5
        for pod in place.of("one"):
            place.schedule(pod)
        await place.look(T0 + timedelta(seconds=at))
        wish = place.cluster.objects["ModelDeployment", "team", "one"]
        place.cluster.change(MODEL, wish, {"spec": {"engine": {"args": ["-O3"]}}, "metadata": {"generation": 2}})
        served = []
        while at < 900:
            at += 5
            for pod in place.cluster.of(POD):
                if kinds.is_leaving(pod):
                    place.cluster.remove(POD, pod)
                elif kinds.revision(pod) in old:
                    place.schedule(pod)
                elif not pod["status"].get("conditions"):
                    place.cluster.change(POD, pod, {"status": no_room(at)})
            await place.look(T0 + timedelta(seconds=at))
            served.append({kinds.revision(pod) for pod in place.of("one")} == old)
        place.reign.queue.close()
        assert not all(served), "it was tried"
        assert all(served[-30:]), "and what worked is restored"
        progress = next(c for c in wish_of(place)["status"]["conditions"] if c["type"] == "Progressing")
        assert "was not ready within 600 s" in progress["message"]

    asyncio.run(story())


def wish_of(place: Nodes) -> Manifest:
    return place.cluster.objects["ModelDeployment", "team", "one"]


def no_room(seconds: float) -> Manifest:
    at = (T0 + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
    message = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"phase": "Pending", "conditions": [condition | {"lastTransitionTime": at}]}
