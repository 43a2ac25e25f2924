"""An operator that is killed between any two calls leaves nothing that its successor does not bring to an end."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from fake_cluster import FakeCluster
from reigns import a_wish, killed, settled
from shoal_operator.kinds import MODEL, POD, REVISION, SECRET, SERVICE, SERVICE_ACCOUNT, Manifest

GANG: dict[str, Any] = {"parallelism": {"tensor": 2, "pipeline": 2}, "resources": {"gpu": 2}}


def nothing(_cluster: FakeCluster) -> None:
    pass


def edit(change: Manifest) -> Callable[[FakeCluster], None]:
    def apply(cluster: FakeCluster) -> None:
        cluster.change(MODEL, cluster.of(MODEL)[0], {"spec": change, "metadata": {"generation": 2}})

    return apply


def lose_a_pod(cluster: FakeCluster) -> None:
    cluster.remove(POD, cluster.of(POD)[-1])


STORIES: dict[str, tuple[Manifest, bool, Callable[[FakeCluster], None]]] = {
    "create": (a_wish(replicas=2), False, nothing),
    "create a gang": (a_wish(**GANG), False, nothing),
    "another revision": (a_wish(replicas=2), True, edit({"engine": {"args": ["--enforce-eager"]}})),
    "fewer": (a_wish(replicas=3), True, edit({"replicas": 1})),
    "to zero": (a_wish(replicas=2), True, edit({"replicas": 0})),
    "a pod lost": (a_wish(replicas=2), True, lose_a_pod),
    "a pod of a gang lost": (a_wish(**GANG), True, lose_a_pod),
}


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_call_it_ends_as_if_it_had_not_been(story: str, when: str) -> None:
    wish, exists, happen = STORIES[story]
    start = settled(wish) if exists else FakeCluster()
    if not exists:
        start.add(wish)
    happen(start)
    whole = copy.deepcopy(start)
    settled(cluster=whole)
    expected = things(whole)
    calls = len(whole.writes) - len(start.writes)
    assert calls > 0

    for number in range(calls):
        cluster = copy.deepcopy(start)
        fatal = len(start.writes) + number
        cluster.dies_before, cluster.dies_after = (fatal, None) if when == "before" else (None, fatal)

        assert killed(cluster)
        cluster.dies_before = cluster.dies_after = None
        settled(cluster=cluster)

        assert things(cluster) == expected, f"killed at {cluster.writes[fatal]}"


def things(cluster: FakeCluster) -> tuple[int, list[str], list[str], list[str]]:
    """How many pods of which revision there are (their indices may differ), and the names of everything else."""
    revisions = sorted(pod["metadata"]["labels"]["shoal.dev/revision"] for pod in cluster.of(POD))
    others = [name for kind in (SERVICE, SERVICE_ACCOUNT, SECRET) for name in cluster.names(kind)]
    return len(cluster.of(POD)), revisions, others, cluster.names(REVISION)
