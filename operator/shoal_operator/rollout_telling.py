"""Put a rollout into words for `shoal rollout status`: which revision, how many of each, and what it waits for."""

from collections.abc import Sequence
from typing import Any

from shoal_api import labels, termination
from shoal_api.conditions import Reason
from shoal_operator import cluster_telling, kinds, pod_facts
from shoal_operator.kinds import Manifest
from shoal_operator.status_report import ModelReport


def describe(model: Manifest, pods: Sequence[Manifest], records: Sequence[Manifest]) -> list[str]:
    """A model on a cluster."""
    status = model.get("status", {})
    wanted, revision = status.get("desiredReplicas", 0), status.get("revision") or "none"
    lines = [f"{kinds.namespace(model)}/{kinds.name(model)}: revision {revision}, {_wanted(wanted)}"]
    for record in reversed(pod_facts.by_number(records)):
        name = kinds.revision(record)
        of_it = [pod for pod in pods if kinds.revision(pod) == name and kinds.label(pod, labels.RANK) == "0"]
        fault = termination.read(kinds.annotation(record, labels.FAULT))
        lines.append(f"  {name}  {_counts(of_it)}{_marks(record)}")
        if fault is not None:
            lines.append(f"    given up: {fault.sentence}")
    lines.append(f"  {_progress(model)}")
    return lines


def describe_local(report: ModelReport) -> list[str]:
    """A model of a running `shoal up`."""
    status = report.status
    lines = [f"{report.id}: revision {status.revision or 'none'}, {_wanted(status.desired_replicas)}"]
    for name in dict.fromkeys([status.revision, *(replica.revision for replica in report.replicas)]):
        states = [str(replica.state) for replica in report.replicas if replica.revision == name]
        lines.append(f"  {name}  {_states(states)}")
    found = next((c for c in status.conditions if c.type == "Progressing"), None)
    lines.append(f"  {found.reason}: {found.message}" if found else "  not looked at yet")
    return lines


def is_complete(model: Manifest) -> bool:
    """Whether the operator has seen the newest edit and nothing is left to do."""
    seen = model.get("status", {}).get("observedGeneration", 0) >= model["metadata"].get("generation", 1)
    return seen and cluster_telling.condition(model, "Progressing").get("reason") == Reason.COMPLETE


def _progress(model: Manifest) -> str:
    if model.get("status", {}).get("observedGeneration", 0) < model["metadata"].get("generation", 1):
        return "the operator has not looked at the newest edit yet"
    found: dict[str, Any] = cluster_telling.condition(model, "Progressing")
    return f"{found['reason']}: {found['message']}" if found else "not looked at yet"


def _wanted(count: int) -> str:
    return f"{count} replica wanted" if count == 1 else f"{count} replicas wanted"


def _counts(pods: Sequence[Manifest]) -> str:
    states = []
    for pod in pods:
        conditions = {c["type"]: c["status"] for c in pod.get("status", {}).get("conditions", [])}
        ready = "Ready" if conditions.get("Ready") == "True" else "Starting"
        states.append("Draining" if kinds.is_leaving(pod) else ready)
    return _states(states)


def _states(states: Sequence[str]) -> str:
    told = [f"{states.count(state)} {state.lower()}" for state in dict.fromkeys(sorted(states))]
    return ", ".join(told) or "no replica"


def _marks(record: Manifest) -> str:
    marks = []
    if kinds.annotation(record, labels.CANARY):
        marks.append("canary")
    if kinds.annotation(record, labels.PROVEN):
        marks.append("has worked")
    return f" ({', '.join(marks)})" if marks else ""
