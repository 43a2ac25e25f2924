"""What pods say about replicas: one table of pods, each with the state and the words that decisions and people see."""

from datetime import UTC, datetime
from typing import Any

import pytest

from fake_cluster import CREATED, running
from shoal_api import labels
from shoal_api.conditions import Reason
from shoal_operator import pod_facts
from shoal_operator.observed import NOT_ANSWERING, ReplicaState
from shoal_operator.pod_facts import Beside

NOW = datetime(2026, 11, 21, 12, 1, tzinfo=UTC)
STARTED = "2026-11-21T12:00:10Z"


def pod(status: dict[str, Any] | None = None, *, rank: int = 0, nodes: int = 1, **metadata: Any) -> dict[str, Any]:
    named = {labels.REPLICA: "qwen-a-0", labels.RANK: str(rank), labels.REVISION: "a"}
    return {
        "metadata": {
            "name": "qwen-a-0" if rank == 0 else f"qwen-a-0-r{rank}",
            "namespace": "team",
            "uid": f"pod-{rank}",
            "creationTimestamp": CREATED,
            "labels": named,
            "annotations": {labels.REPLICA_CONFIG: f'{{"nodes": {nodes}}}'},
            **metadata,
        },
        "spec": {"containers": [{"resources": {"limits": {"nvidia.com/gpu": "8"}}}]},
        "status": status or {"phase": "Pending"},
    }


def unscheduled(message: str, reason: str = "Unschedulable") -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
    return {"phase": "Pending", "conditions": [{**condition, "lastTransitionTime": CREATED}]}


def waiting(reason: str, message: str = "", **last: Any) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    container = {"name": "engine", "image": "shoal/engine:1", "restartCount": 1, "state": state, **last}
    return {"phase": "Pending", "containerStatuses": [container]}


def ended(code: int, message: str = "", reason: str = "Error") -> dict[str, Any]:
    terminated = {"exitCode": code, "message": message, "reason": reason, "finishedAt": "2026-11-21T12:00:30Z"}
    return waiting("CrashLoopBackOff", lastState={"terminated": terminated})


FRESH = running(ready=False, at=STARTED)
FELL_SILENT = running(ready=False, at="2026-11-21T12:00:40Z")
FELL_SILENT["containerStatuses"][0]["state"] = {"running": {"startedAt": STARTED}}


def test_only_a_replica_that_still_starts_has_nothing_to_drain() -> None:
    starting = [pod(), pod(FRESH), pod(waiting("ImagePullBackOff"))]
    others = [pod(running()), pod(FELL_SILENT), pod(FRESH, rank=1, nodes=2)]

    assert [pod_facts.serves_nobody(each) for each in (*starting, *others)] == [True] * 3 + [False] * 3


STATES = [
    ("just made", pod(), ReplicaState.STARTING, ""),
    ("its engine loads", pod(FRESH), ReplicaState.STARTING, ""),
    ("ready", pod(running()), ReplicaState.READY, ""),
    ("was ready in this run", pod(FELL_SILENT), ReplicaState.STARTING, NOT_ANSWERING),
    ("told to go", pod(running(), deletionTimestamp="2026-11-21T12:10:00Z"), ReplicaState.DRAINING, ""),
    ("waits to be started again", pod(ended(1)), ReplicaState.FAILED, ""),
]


@pytest.mark.parametrize(("what", "manifest", "state", "stage"), STATES)
def test_the_state_of_a_replica(what: str, manifest: dict[str, Any], state: ReplicaState, stage: str) -> None:
    (replica,) = pod_facts.observed([manifest], [], Beside(), NOW).replicas

    assert (replica.state, replica.stage, replica.lost) == (state, stage, "")


WORDS = [
    (ended(1, "the GPU is gone: look at the driver"), "the GPU is gone: look at the driver", False),
    (ended(1, "[permanent] --foo is unknown: remove it"), "--foo is unknown: remove it", True),
    (ended(78, "--foo is unknown"), "--foo is unknown", True),
    (ended(137, reason="OOMKilled"), "used more memory than spec.resources.memory allows", False),
    (ended(139), "by signal 11", False),
    (ended(2), "exit code 2 and left no word; see `kubectl logs --previous qwen-a-0`", False),
]


@pytest.mark.parametrize(("status", "words", "permanent"), WORDS)
def test_the_last_words(status: dict[str, Any], words: str, permanent: bool) -> None:
    (replica,) = pod_facts.observed([pod(status)], [], Beside(), NOW).replicas

    assert replica.last_words is not None
    assert words in replica.last_words.sentence
    assert replica.last_words.permanent is permanent


NO_GPU = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: 0/3 nodes are available."
NO_CLAIM = '0/1 nodes are available: persistentvolumeclaim "weights" not found. not found'
UNSCHEDULABLE, MISSING = Reason.UNSCHEDULABLE, Reason.OBJECT_MISSING
CREATING = waiting("ContainerCreating")
HINDRANCES = [
    (unscheduled(NO_GPU), Beside(), UNSCHEDULABLE, "(0/3 nodes are available: 3 Insufficient nvidia.com/gpu)", True),
    (unscheduled(NO_GPU), Beside(largest_gpus={"nvidia.com/gpu": 8}), UNSCHEDULABLE, "add or free a node", True),
    (unscheduled(NO_GPU), Beside(largest_gpus={"nvidia.com/gpu": 4}), Reason.NO_SUCH_GPU, "has more than 4", False),
    (unscheduled(NO_GPU), Beside(largest_gpus={}), Reason.NO_SUCH_GPU, "asks for 8 nvidia.com/gpu", False),
    (unscheduled("node(s) had untolerated taint {a: b}"), Beside(), UNSCHEDULABLE, "untolerated taint", False),
    (unscheduled(NO_CLAIM), Beside(), MISSING, 'the claim "weights" is not in namespace team', False),
    (unscheduled("gated", "SchedulingGated"), Beside(), UNSCHEDULABLE, "until they are admitted", False),
    (waiting("ErrImagePull", "no such host"), Beside(), Reason.IMAGE_UNAVAILABLE, "engine:1 cannot be pulled", False),
    (waiting("CreateContainerConfigError", 'secret "t" not found'), Beside(), MISSING, "in namespace team", False),
    (CREATING, Beside(mount_words={"pod-0": 'secret "x" not found'}), MISSING, 'secret "x" not found', False),
    (CREATING, Beside(mount_words={"pod-0": "no directory"}), Reason.VOLUME_UNAVAILABLE, "no directory", False),
]


@pytest.mark.parametrize(("status", "beside", "reason", "words", "needs_room"), HINDRANCES)
def test_what_a_starting_replica_waits_for(
    status: dict[str, Any], beside: Beside, reason: Reason, words: str, needs_room: bool
) -> None:
    (replica,) = pod_facts.observed([pod(status)], [], beside, NOW).replicas

    assert replica.hindrance is not None
    assert replica.hindrance.reason is reason
    assert words in replica.hindrance.sentence
    assert replica.hindrance.needs_room is needs_room


GANGS = [
    ("whole", [pod(running(), nodes=2), pod(running(), rank=1, nodes=2)], ReplicaState.READY, ""),
    ("rank 0 loads", [pod(FRESH, nodes=2), pod(running(), rank=1, nodes=2)], ReplicaState.STARTING, ""),
    ("rank 1 is gone", [pod(running(), nodes=2)], ReplicaState.READY, "rank 1"),
    ("rank 0 is gone", [pod(running(), rank=1, nodes=2)], ReplicaState.STARTING, "rank 0"),
    (
        "rank 1 is told to go",
        [pod(running(), nodes=2), pod(running(), rank=1, nodes=2, deletionTimestamp="2026-11-21T12:10:00Z")],
        *(ReplicaState.READY, "qwen-a-0-r1 was told to go"),
    ),
    (
        "evicted",
        [pod({"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory"})],
        *(ReplicaState.STARTING, "Evicted: The node was low on memory"),
    ),
]


@pytest.mark.parametrize(("what", "pods", "state", "lost"), GANGS)
def test_a_replica_is_its_pods_together(what: str, pods: list[dict[str, Any]], state: ReplicaState, lost: str) -> None:
    (replica,) = pod_facts.observed(pods, [], Beside(), NOW).replicas

    assert replica.state is state
    assert lost in replica.lost
    assert bool(lost) == bool(replica.lost)
