"""What the pods and ControllerRevisions of a model say about its replicas and revisions."""

import re
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from shoal_api import labels, termination
from shoal_api.conditions import Reason
from shoal_api.termination import EXIT_PERMANENT, LastWords
from shoal_operator import kinds
from shoal_operator.kinds import Manifest
from shoal_operator.observed import NOT_ANSWERING, Endpoint, Hindrance, Observed, Replica, ReplicaState, Revision
from shoal_operator.pod_template import ENGINE

GIVEN_UP_AFTER_SECONDS = 30.0
"""A pod still there so long after the end of its grace period is on a node that does not answer: it counts no more."""

_PULLING = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}
)
_MISSING = frozenset({"CreateContainerConfigError"})
_NO_ROOM = re.compile(r"Insufficient |Too many pods")


def observed(
    pods: Sequence[Manifest],
    revisions: Sequence[Manifest],
    *,
    obstacle: LastWords | None,
    asks_again_at: datetime | None,
    taken_names: frozenset[str],
    now: datetime,
) -> Observed:
    """Everything that decisions about one model see."""
    of_replica: dict[str, list[Manifest]] = defaultdict(list)
    for pod in pods:
        of_replica[kinds.label(pod, labels.REPLICA) or kinds.name(pod)].append(pod)
    overdue = {name for name, members in of_replica.items() if any(_is_overdue(pod, now) for pod in members)}
    replicas = [_replica(name, members) for name, members in of_replica.items() if name not in overdue]
    known = sorted(revisions, key=lambda r: (int(r.get("revision", 0)), kinds.name(r)))
    return Observed(
        replicas=tuple(sorted(replicas, key=lambda r: (r.created, r.name))),
        revisions=tuple(_revision(manifest) for manifest in known),
        obstacle=obstacle,
        changes_at=min(
            (
                *(_counts_until(pod) for pod in pods if _leaves_in_time(pod, now)),
                *([asks_again_at] if asks_again_at and asks_again_at > now else []),
            ),
            default=None,
        ),
        taken_names=taken_names | overdue,
    )


def newly_proven(pods: Sequence[Manifest], revisions: Sequence[Manifest]) -> list[Manifest]:
    """Revisions of which a replica is ready and that do not say so yet."""
    ready = {
        kinds.label(pod, labels.REVISION)
        for pod in pods
        if _rank(pod) == 0 and not kinds.is_leaving(pod) and _condition(pod, "Ready")[0]
    }
    return [r for r in revisions if kinds.label(r, labels.REVISION) in ready and not _is_proven(r)]


def _is_proven(manifest: Manifest) -> bool:
    return kinds.annotation(manifest, labels.PROVEN) == "true"


def _revision(manifest: Manifest) -> Revision:
    return Revision(
        name=kinds.label(manifest, labels.REVISION),
        proven=_is_proven(manifest),
        fault=termination.read(kinds.annotation(manifest, labels.FAULT)),
    )


def _replica(name: str, members: list[Manifest]) -> Replica:
    """One replica out of its pods; they are one only together."""
    pods = sorted(members, key=_rank)
    first = pods[0]
    created = min(_moment(pod["metadata"]["creationTimestamp"]) for pod in pods)
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
        hindrance=_hindrance(pods) if state is ReplicaState.STARTING else None,
        lost=_lost(name, pods),
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


def _hindrance(pods: list[Manifest]) -> Hindrance | None:
    for pod in pods:
        status = pod.get("status", {})
        since = _moment(pod["metadata"]["creationTimestamp"])
        for condition in status.get("conditions", []):
            if condition["type"] == "PodScheduled" and condition["status"] == "False":
                return _unscheduled(pod, condition)
        for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
            waiting = container.get("state", {}).get("waiting", {})
            reason, message = waiting.get("reason", ""), waiting.get("message", "")
            if reason in _PULLING:
                sentence = (
                    f"the image {container['image']} cannot be pulled ({message or reason}): check its name "
                    "(spec.engine.image, or the installation's) and the pull secrets of the namespace"
                )
                return Hindrance(Reason.IMAGE_UNAVAILABLE, sentence, since)
            if reason in _MISSING:
                where = kinds.namespace(pod)
                sentence = f"{message}: make it in namespace {where}, or take it out of the manifest"
                return Hindrance(Reason.OBJECT_MISSING, sentence, since)
    return None


def _unscheduled(pod: Manifest, condition: Manifest) -> Hindrance:
    message = str(condition.get("message", "")).strip().rstrip(".")
    since = _time(condition.get("lastTransitionTime")) or _moment(pod["metadata"]["creationTimestamp"])
    if condition.get("reason") == "SchedulingGated":
        return Hindrance(Reason.UNSCHEDULABLE, f"its pods are held back until they are admitted: {message}", since)
    if "persistentvolumeclaim" in message and "not found" in message:
        where = kinds.namespace(pod)
        return Hindrance(Reason.OBJECT_MISSING, f"{message}: make the claim in namespace {where}", since)
    sentence = (
        f"no node takes the pod {kinds.name(pod)} ({message}): add or free a node, or ask for less in spec.resources "
        "and spec.scheduling"
    )
    return Hindrance(Reason.UNSCHEDULABLE, sentence, since, needs_room=bool(_NO_ROOM.search(message)))


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
    for condition in pod.get("status", {}).get("conditions", []):
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


def _is_overdue(pod: Manifest, now: datetime) -> bool:
    return kinds.is_leaving(pod) and now > _counts_until(pod)


def _leaves_in_time(pod: Manifest, now: datetime) -> bool:
    return kinds.is_leaving(pod) and now <= _counts_until(pod)


def _counts_until(pod: Manifest) -> datetime:
    """A pod that is told to go carries the end of its grace period."""
    return _moment(pod["metadata"]["deletionTimestamp"]) + timedelta(seconds=GIVEN_UP_AFTER_SECONDS)


def _time(text: Any) -> datetime | None:
    """A time as Kubernetes writes it, where it did."""
    return _moment(text) if text else None


def _moment(text: Any) -> datetime:
    return datetime.fromisoformat(str(text))
