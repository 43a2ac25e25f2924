"""What the pods and ControllerRevisions of a model say about its replicas and revisions."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shoal_api import labels, termination
from shoal_api.modeldeployment import ModelDeployment
from shoal_api.termination import LastWords
from shoal_operator import ganging, hindrances, kinds, pod_status, surging
from shoal_operator.ganging import PendingGang
from shoal_operator.kinds import Manifest
from shoal_operator.observed import NOT_ANSWERING, Endpoint, Hindrance, Observed, Replica, ReplicaState, Revision
from shoal_operator.surging import Surge

GIVEN_UP_AFTER_SECONDS = 30.0
"""A pod still there so long after the end of its grace period is on a node that does not answer: it counts no more."""


@dataclass(frozen=True, slots=True)
class Beside:
    """What is known about a model beside its pods and revisions."""

    obstacle: LastWords | None = None
    taken_names: frozenset[str] = frozenset()
    mount_words: Mapping[str, str] = field(default_factory=dict)
    """Kubelet's complaints about volumes, by the pod's UID."""
    largest_gpus: Mapping[str, int] | None = None
    """Of each GPU resource, how many the node has that has most of it; None where that is not known."""
    let_go: tuple[str, ...] = ()
    """Gangs whose pods did not all find a node in time."""
    may_make: int | None = None
    held: Hindrance | None = None
    not_now: frozenset[str] = frozenset()
    tried_since: datetime | None = None
    surge_waits: str = ""
    surge_refused: str = ""
    changes_at: tuple[datetime, ...] = ()


def observed(pods: Sequence[Manifest], records: Sequence[Manifest], beside: Beside, now: datetime) -> Observed:
    """Everything that decisions about one model see."""
    of_replica: dict[str, list[Manifest]] = defaultdict(list)
    for pod in pods:
        of_replica[kinds.label(pod, labels.REPLICA) or kinds.name(pod)].append(pod)
    overdue = {name for name, members in of_replica.items() if any(_is_overdue(pod, now) for pod in members)}
    replicas = [_replica(name, members, beside) for name, members in of_replica.items() if name not in overdue]
    times = (*(_counts_until(pod) for pod in pods if kinds.is_leaving(pod)), *beside.changes_at)
    return Observed(
        replicas=tuple(sorted(replicas, key=lambda r: (r.created, r.name))),
        revisions=revisions(records),
        surge_waits=beside.surge_waits,
        surge_refused=beside.surge_refused,
        obstacle=beside.obstacle,
        may_make=beside.may_make,
        held=beside.held,
        not_now=beside.not_now,
        tried_since=beside.tried_since,
        changes_at=min((time for time in times if time > now), default=None),
        taken_names=beside.taken_names | overdue,
    )


def newly_proven(pods: Sequence[Manifest], revisions: Sequence[Manifest]) -> list[Manifest]:
    """Revisions of which a replica is ready and that do not say so yet."""
    ready = {
        kinds.label(pod, labels.REVISION)
        for pod in pods
        if pod_status.rank(pod) == 0 and not kinds.is_leaving(pod) and pod_status.condition(pod, "Ready")[0]
    }
    return [r for r in revisions if kinds.label(r, labels.REVISION) in ready and not _is_proven(r)]


def by_number(records: Sequence[Manifest]) -> list[Manifest]:
    """The records of revisions, the oldest wish first."""
    return sorted(records, key=lambda r: (int(r.get("revision", 0)), kinds.name(r)))


def revisions(records: Sequence[Manifest]) -> tuple[Revision, ...]:
    """What is known about the revisions, the oldest wish first."""
    return tuple(_revision(record) for record in by_number(records))


def is_rolling(pods: Sequence[Manifest], revision: str) -> bool:
    """Whether replicas of another revision are there that nobody told to go."""
    return any(not kinds.is_leaving(pod) and kinds.revision(pod) != revision for pod in pods)


def surge(md: ModelDeployment, pods: Sequence[Manifest]) -> Surge | None:
    """The turn that this model has: for a replica that was made beside others, until these have gone."""
    if not md.spec.resources.gpu:
        return None
    newest = max(
        (pod for pod in pods if kinds.annotation(pod, labels.SURGE) and not kinds.is_leaving(pod)),
        key=pod_status.created,
        default=None,
    )
    if newest is None or all(kinds.revision(pod) == kinds.revision(newest) for pod in pods):
        return None
    return Surge(md.id, ganging.pool(md), pod_status.created(newest) + timedelta(seconds=surging.TURN_SECONDS))


def pending_gangs(md: ModelDeployment, pods: Sequence[Manifest]) -> list[PendingGang]:
    """The model's gangs that look for nodes; those that somebody holds back on purpose do not."""
    return [
        PendingGang(md.id, name, ganging.pool(md), min(pod_status.created(pod) for pod in members))
        for name, members in _staying_gangs(pods).items()
        if not any(pod.get("spec", {}).get("schedulingGates") for pod in members) and not _has_nodes(members)
    ]


def has_found_nodes(pods: Sequence[Manifest], since: datetime) -> bool:
    """Whether a gang that was made after this moment has found a node for each of its pods."""
    return any(
        _has_nodes(members) and min(pod_status.created(pod) for pod in members) > since
        for members in _staying_gangs(pods).values()
    )


def _staying_gangs(pods: Sequence[Manifest]) -> dict[str, list[Manifest]]:
    """The pods of each replica of which none was told to go."""
    of_replica: dict[str, list[Manifest]] = defaultdict(list)
    for pod in pods:
        of_replica[kinds.label(pod, labels.REPLICA)].append(pod)
    return {name: members for name, members in of_replica.items() if not any(kinds.is_leaving(pod) for pod in members)}


def _has_nodes(members: Sequence[Manifest]) -> bool:
    return all(pod.get("spec", {}).get("nodeName") for pod in members)


def is_held(pod: Manifest) -> bool:
    """Whether it has a node and kubelet has not come to its containers yet: it waits for volumes or pulls an image."""
    if kinds.is_leaving(pod) or not pod.get("spec", {}).get("nodeName"):
        return False
    return pod_status.engine(pod).get("state", {}).get("waiting", {}).get("reason") in (
        "ContainerCreating",
        "PodInitializing",
    )


def _is_proven(manifest: Manifest) -> bool:
    return kinds.annotation(manifest, labels.PROVEN) == "true"


def _revision(manifest: Manifest) -> Revision:
    return Revision(
        name=kinds.label(manifest, labels.REVISION),
        proven=_is_proven(manifest),
        fault=termination.read(kinds.annotation(manifest, labels.FAULT)),
        canary=kinds.annotation(manifest, labels.CANARY) == "true",
    )


def _replica(name: str, members: list[Manifest], beside: Beside) -> Replica:
    """One replica out of its pods; they are one only together."""
    pods = sorted(members, key=pod_status.rank)
    first = pods[0]
    created = min(pod_status.created(pod) for pod in pods)
    state, since, stage = _state(pods, created)
    words = next((said for pod in pods if (said := pod_status.last_words(pod))), None)
    address = first.get("status", {}).get("podIP")
    return Replica(
        name=name,
        uid=kinds.uid(first),
        revision=kinds.label(first, labels.REVISION),
        state=state,
        since=since,
        created=created,
        stage=stage,
        restarts=max(pod_status.engine(pod).get("restartCount", 0) for pod in pods),
        last_words=words,
        endpoint=Endpoint(address, labels.HTTP_PORT) if address else None,
        hindrance=hindrances.of(pods, beside.mount_words, beside.largest_gpus)
        if state is ReplicaState.STARTING
        else None,
        lost=_lost(name, pods) or (ganging.sentence(name) if name in beside.let_go else ""),
    )


def _state(pods: list[Manifest], created: datetime) -> tuple[ReplicaState, datetime, str]:
    if all(kinds.is_leaving(pod) for pod in pods):
        return ReplicaState.DRAINING, pod_status.moment(pods[0]["metadata"]["deletionTimestamp"]), ""
    ended = [
        pod for pod in pods if "running" not in pod_status.engine(pod).get("state", {}) and pod_status.terminated(pod)
    ]
    if ended:
        return ReplicaState.FAILED, pod_status.time_of(pod_status.terminated(ended[0]).get("finishedAt")) or created, ""
    is_ready, changed = pod_status.condition(pods[0], "Ready")
    if is_ready and pod_status.rank(pods[0]) == 0:
        return ReplicaState.READY, changed or created, ""
    began = pod_status.time_of(pod_status.engine(pods[0]).get("state", {}).get("running", {}).get("startedAt"))
    if began is None:
        return ReplicaState.STARTING, created, ""
    # Kubelet sets Ready=False when a container ends or begins; a later change says that it was ready in this very run.
    if changed is not None and changed > began + timedelta(seconds=1):
        return ReplicaState.STARTING, changed, NOT_ANSWERING
    return ReplicaState.STARTING, began, ""


def _lost(name: str, pods: list[Manifest]) -> str:
    """Why the replica cannot be whole again; kubelet starts containers anew, but never a pod that is over or gone."""
    if all(kinds.is_leaving(pod) for pod in pods):
        return ""
    leaving = next((pod for pod in pods if kinds.is_leaving(pod)), None)
    if leaving is not None:
        return f"its pod {kinds.name(leaving)} was told to go, and a gang is replaced as a whole"
    over = next((pod for pod in pods if pod.get("status", {}).get("phase") in ("Failed", "Succeeded")), None)
    if over is not None:
        status = over["status"]
        said = ": ".join(str(status[key]) for key in ("reason", "message") if status.get(key))
        return f"its pod {kinds.name(over)} is over ({said or status['phase']})"
    expected = pod_status.size(pods[0])
    if len(pods) < expected:
        present = {pod_status.rank(pod) for pod in pods}
        missing = next(rank for rank in range(expected) if rank not in present)
        return f"the pod of rank {missing} of {name} is gone, and a gang is replaced as a whole"
    return ""


def serves_nobody(pod: Manifest) -> bool:
    """Whether it still starts; a pod of a gang that has no door of its own works for the one that has."""
    state, _, stage = _state([pod], pod_status.created(pod))
    return pod_status.rank(pod) == 0 and state is ReplicaState.STARTING and stage != NOT_ANSWERING


def _is_overdue(pod: Manifest, now: datetime) -> bool:
    return kinds.is_leaving(pod) and now > _counts_until(pod)


def _counts_until(pod: Manifest) -> datetime:
    """A pod that is told to go carries the end of its grace period."""
    return pod_status.moment(pod["metadata"]["deletionTimestamp"]) + timedelta(seconds=GIVEN_UP_AFTER_SECONDS)
