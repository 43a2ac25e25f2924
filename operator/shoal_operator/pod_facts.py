"""What the pods and ControllerRevisions of a model say about its replicas and revisions."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from shoal_api import labels, termination
from shoal_api.conditions import Reason
from shoal_api.modeldeployment import ModelDeployment
from shoal_api.termination import EXIT_PERMANENT, LastWords
from shoal_operator import ganging, kinds, surging
from shoal_operator.ganging import PendingGang
from shoal_operator.kinds import Manifest
from shoal_operator.observed import NOT_ANSWERING, Endpoint, Hindrance, Observed, Replica, ReplicaState, Revision
from shoal_operator.pod_template import ENGINE
from shoal_operator.surging import Surge

GIVEN_UP_AFTER_SECONDS = 30.0
"""A pod still there so long after the end of its grace period is on a node that does not answer: it counts no more."""

_PULLING = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}
)
_MISSING = frozenset({"CreateContainerConfigError"})
_NO_CLAIM = re.compile(r'persistentvolumeclaim "([^"]+)" not found')
_NO_ROOM = re.compile(r"Insufficient |Too many pods")


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
        changes_at=min((time for time in times if time > now), default=None),
        taken_names=beside.taken_names | overdue,
    )


def newly_proven(pods: Sequence[Manifest], revisions: Sequence[Manifest]) -> list[Manifest]:
    """Revisions of which a replica is ready and that do not say so yet."""
    ready = {
        kinds.label(pod, labels.REVISION)
        for pod in pods
        if _rank(pod) == 0 and not kinds.is_leaving(pod) and _condition(pod, "Ready")[0]
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


def is_served_by_another(pods: Sequence[Manifest], revision: str) -> bool:
    """Whether one of them is ready, so that something would be lost."""
    return any(
        not kinds.is_leaving(pod) and kinds.revision(pod) != revision and _condition(pod, "Ready")[0] for pod in pods
    )


def surge(md: ModelDeployment, pods: Sequence[Manifest]) -> Surge | None:
    """The turn that this model has: for a replica that was made beside others, until these have gone."""
    if not md.spec.resources.gpu:
        return None
    newest = max(
        (pod for pod in pods if kinds.annotation(pod, labels.SURGE) and not kinds.is_leaving(pod)),
        key=_created,
        default=None,
    )
    if newest is None or all(kinds.revision(pod) == kinds.revision(newest) for pod in pods):
        return None
    return Surge(md.id, ganging.pool(md), _created(newest) + timedelta(seconds=surging.TURN_SECONDS))


def pending_gangs(md: ModelDeployment, pods: Sequence[Manifest]) -> list[PendingGang]:
    """The model's gangs that look for nodes; those that somebody holds back on purpose do not."""
    of_replica: dict[str, list[Manifest]] = defaultdict(list)
    for pod in pods:
        of_replica[kinds.label(pod, labels.REPLICA)].append(pod)
    return [
        PendingGang(md.id, name, ganging.pool(md), min(_created(pod) for pod in members))
        for name, members in of_replica.items()
        if not any(kinds.is_leaving(pod) or pod.get("spec", {}).get("schedulingGates") for pod in members)
        and not all(pod.get("spec", {}).get("nodeName") for pod in members)
    ]


def is_held(pod: Manifest) -> bool:
    """Whether it has a node and kubelet has not come to its containers yet: it waits for volumes or pulls an image."""
    if kinds.is_leaving(pod) or not pod.get("spec", {}).get("nodeName"):
        return False
    return _engine(pod).get("state", {}).get("waiting", {}).get("reason") in ("ContainerCreating", "PodInitializing")


def missing_resources(pod: Manifest) -> frozenset[str]:
    """The GPUs and the like of which the scheduler found too few."""
    messages = [str(c.get("message", "")) for c in _conditions(pod) if _is_unscheduled(c)]
    return frozenset(name.rstrip(".,") for name in re.findall(r"Insufficient (\S+/\S+)", " ".join(messages)))


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
    pods = sorted(members, key=_rank)
    first = pods[0]
    created = min(_created(pod) for pod in pods)
    state, since, stage = _state(pods, created)
    words = next((said for pod in pods if (said := _last_words(pod))), None)
    address = first.get("status", {}).get("podIP")
    return Replica(
        name=name,
        uid=kinds.uid(first),
        revision=kinds.label(first, labels.REVISION),
        state=state,
        since=since,
        created=created,
        stage=stage,
        restarts=max(_engine(pod).get("restartCount", 0) for pod in pods),
        last_words=words,
        endpoint=Endpoint(address, labels.HTTP_PORT) if address else None,
        hindrance=_hindrance(pods, beside) if state is ReplicaState.STARTING else None,
        lost=_lost(name, pods) or (ganging.sentence(name) if name in beside.let_go else ""),
    )


def _state(pods: list[Manifest], created: datetime) -> tuple[ReplicaState, datetime, str]:
    if all(kinds.is_leaving(pod) for pod in pods):
        return ReplicaState.DRAINING, _moment(pods[0]["metadata"]["deletionTimestamp"]), ""
    ended = [pod for pod in pods if "running" not in _engine(pod).get("state", {}) and _terminated(pod)]
    if ended:
        return ReplicaState.FAILED, _time(_terminated(ended[0]).get("finishedAt")) or created, ""
    is_ready, changed = _condition(pods[0], "Ready")
    if is_ready and _rank(pods[0]) == 0:
        return ReplicaState.READY, changed or created, ""
    began = _time(_engine(pods[0]).get("state", {}).get("running", {}).get("startedAt"))
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
    expected = _size(pods[0])
    if len(pods) < expected:
        present = {_rank(pod) for pod in pods}
        missing = next(rank for rank in range(expected) if rank not in present)
        return f"the pod of rank {missing} of {name} is gone, and a gang is replaced as a whole"
    return ""


def _hindrance(pods: list[Manifest], beside: Beside) -> Hindrance | None:
    return next((found for pod in pods if (found := _hindrance_of(pod, beside))), None)


def _hindrance_of(pod: Manifest, beside: Beside) -> Hindrance | None:
    status, where = pod.get("status", {}), kinds.namespace(pod)
    since = _created(pod)
    unscheduled = next((condition for condition in _conditions(pod) if _is_unscheduled(condition)), None)
    if unscheduled is not None:
        return _unscheduled(pod, unscheduled, beside)
    for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        waiting = container.get("state", {}).get("waiting", {})
        reason, message = waiting.get("reason", ""), waiting.get("message", "")
        if reason in _PULLING:
            sentence = (
                f"the image {container['image']} cannot be pulled ({message or reason}): check its name "
                f"(spec.engine.image, or the installation's) and the pull secrets of namespace {where}"
            )
            return Hindrance(Reason.IMAGE_UNAVAILABLE, sentence, since)
        if reason in _MISSING:
            sentence = f"{message}: make it in namespace {where}, or take it out of the manifest"
            return Hindrance(Reason.OBJECT_MISSING, sentence, since)
    words = beside.mount_words.get(kinds.uid(pod))
    if words:
        sentence = f"{words}: make what the volume needs, or change spec.model.source or spec.podTemplate"
        reason = Reason.OBJECT_MISSING if "not found" in words else Reason.VOLUME_UNAVAILABLE
        return Hindrance(reason, sentence, since)
    return None


def serves_nobody(pod: Manifest) -> bool:
    """Whether it still starts; a pod of a gang that has no door of its own works for the one that has."""
    state, _, stage = _state([pod], _created(pod))
    return _rank(pod) == 0 and state is ReplicaState.STARTING and stage != NOT_ANSWERING


def _conditions(pod: Manifest) -> list[Manifest]:
    found: list[Manifest] = pod.get("status", {}).get("conditions", [])
    return found


def _is_unscheduled(condition: Manifest) -> bool:
    return bool(condition["type"] == "PodScheduled" and condition["status"] == "False")


def _unscheduled(pod: Manifest, condition: Manifest, beside: Beside) -> Hindrance:
    # What follows tells about preemption and claims of other kinds, which helps nobody here.
    message = str(condition.get("message", "")).partition(" no new claims")[0]
    message = message.partition(" preemption:")[0].rstrip(" .,")
    since = _time(condition.get("lastTransitionTime")) or _created(pod)
    if condition.get("reason") == "SchedulingGated":
        return Hindrance(Reason.UNSCHEDULABLE, f"its pods are held back until they are admitted: {message}", since)
    claim = _NO_CLAIM.search(message)
    if claim is not None:
        where = kinds.namespace(pod)
        sentence = f'the claim "{claim.group(1)}" is not in namespace {where}: make it, or name another in the manifest'
        return Hindrance(Reason.OBJECT_MISSING, sentence, since)
    for resource in sorted(missing_resources(pod)):
        if beside.largest_gpus is None:
            break
        asked, most = _asked(pod, resource), beside.largest_gpus.get(resource, 0)
        if asked > most:
            sentence = (
                f"a pod asks for {asked} {resource} and no node has more than {most}: lower spec.resources.gpu, "
                "name another spec.resources.gpuResource, or add such a node"
            )
            return Hindrance(Reason.NO_SUCH_GPU, sentence, since)
    sentence = (
        f"no node takes the pod {kinds.name(pod)} ({message}): add or free a node, or ask for less in spec.resources "
        "and spec.scheduling"
    )
    return Hindrance(Reason.UNSCHEDULABLE, sentence, since, needs_room=bool(_NO_ROOM.search(message)))


def _asked(pod: Manifest, resource: str) -> int:
    containers = pod.get("spec", {}).get("containers", [])
    return sum(int(container.get("resources", {}).get("limits", {}).get(resource, 0)) for container in containers)


def _last_words(pod: Manifest) -> LastWords | None:
    """Why its engine's container ended the last time."""
    ended = _terminated(pod)
    if not ended:
        return None
    code = int(ended.get("exitCode", 0))
    said = termination.read(str(ended.get("message", "")))
    if said is not None:
        return LastWords(said.sentence, said.permanent or code == EXIT_PERMANENT)
    memory = ": it used more memory than spec.resources.memory allows" if ended.get("reason") == "OOMKilled" else ""
    how = f"by signal {code - 128}" if code > 128 else f"with exit code {code}"
    sentence = (
        f"the replica program ended {how}{memory} and left no word; see `kubectl logs --previous {kinds.name(pod)}`"
    )
    return LastWords(sentence, code == EXIT_PERMANENT)


def _terminated(pod: Manifest) -> Manifest:
    container = _engine(pod)
    ended: Manifest = container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated")
    return ended or {}


def _engine(pod: Manifest) -> Manifest:
    containers = pod.get("status", {}).get("containerStatuses", [])
    return next((container for container in containers if container["name"] == ENGINE), {})


def _condition(pod: Manifest, kind: str) -> tuple[bool, datetime | None]:
    for condition in _conditions(pod):
        if condition["type"] == kind:
            return condition["status"] == "True", _time(condition.get("lastTransitionTime"))
    return False, None


def _rank(pod: Manifest) -> int:
    text = kinds.label(pod, labels.RANK)
    return int(text) if text.isdecimal() else 0


def _size(pod: Manifest) -> int:
    """Of how many pods its replica is made."""
    found = re.search(r'"nodes":\s*(\d+)', kinds.annotation(pod, labels.REPLICA_CONFIG))
    return int(found.group(1)) if found else 1


def _created(pod: Manifest) -> datetime:
    return _moment(pod["metadata"]["creationTimestamp"])


def _is_overdue(pod: Manifest, now: datetime) -> bool:
    return kinds.is_leaving(pod) and now > _counts_until(pod)


def _counts_until(pod: Manifest) -> datetime:
    """A pod that is told to go carries the end of its grace period."""
    return _moment(pod["metadata"]["deletionTimestamp"]) + timedelta(seconds=GIVEN_UP_AFTER_SECONDS)


def _time(text: Any) -> datetime | None:
    """A time as Kubernetes writes it, where it did."""
    return _moment(text) if text else None


def _moment(text: Any) -> datetime:
    return datetime.fromisoformat(str(text))
