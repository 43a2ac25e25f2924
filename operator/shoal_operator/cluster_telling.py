"""Put a model and its pods on a cluster into words for `shoal status`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from shoal_api import labels, termination
from shoal_operator import kinds
from shoal_operator.kinds import Manifest


def describe(model: Manifest, pods: Sequence[Manifest], now: datetime) -> list[str]:
    """Everything about one model."""
    status = model.get("status", {})
    load = status.get("load", {})
    counts = f"{status.get('readyReplicas', 0)} of {status.get('desiredReplicas', 0)} replicas ready"
    requests = f"{load.get('waiting', 0)} waiting, {load.get('inFlight', 0)} in flight"
    revision = status.get("revision") or "none"
    lines = [f"{kinds.namespace(model)}/{kinds.name(model)}  {counts}, {requests}, revision {revision}"]
    lines.append(f"  names: {', '.join(status.get('names', [])) or 'none'}")
    lines += [f"  {c['type']}={c['status']} {c['reason']}: {c['message']}" for c in status.get("conditions", [])]
    for pod in pods:
        lines += [f"  {line}" for line in _pod(pod, now)]
    return lines


def condition(model: Manifest, kind: str) -> dict[str, Any]:
    """One condition of a model; empty where it is not there."""
    found = (c for c in model.get("status", {}).get("conditions", []) if c["type"] == kind)
    return next(found, {})


def _pod(pod: Manifest, now: datetime) -> list[str]:
    status, metadata = pod.get("status", {}), pod["metadata"]
    conditions = {c["type"]: c for c in status.get("conditions", [])}
    containers = status.get("containerStatuses", [])
    restarts = sum(container.get("restartCount", 0) for container in containers)
    created = datetime.fromisoformat(metadata["creationTimestamp"])
    where = pod["spec"].get("nodeName", "no node yet")
    revision = metadata.get("labels", {}).get(labels.REVISION, "")
    again = f", started again {restarts} times" if restarts else ""
    age = f"{(now - created).total_seconds():.0f} s"
    lines = [f"{kinds.name(pod)}  {_state(pod, conditions)}, {where}, revision {revision}, {age} old{again}"]
    for container in containers:
        said = container.get("lastState", {}).get("terminated", {}).get("message", "")
        words = termination.read(said)
        if words is not None:
            lines.append(f"  last words: {words.sentence}")
    return lines


def _state(pod: Manifest, conditions: dict[str, Any]) -> str:
    if kinds.is_leaving(pod):
        return "Draining"
    if conditions.get("Ready", {}).get("status") == "True":
        return "Ready"
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return f"not scheduled ({scheduled.get('message', '')})"
    for container in pod.get("status", {}).get("containerStatuses", []):
        waiting = container.get("state", {}).get("waiting")
        if waiting:
            return str(waiting.get("reason", "waiting"))
    return "Starting"
