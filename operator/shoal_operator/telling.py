"""Put the reports of `shoal up` into words for `shoal status`."""

from collections.abc import Mapping
from datetime import datetime

from shoal_api.load import LoadMessage, ModelLoad
from shoal_operator.status_report import ModelReport, ReplicaReport, UpReport


def describe(report: UpReport, load: LoadMessage | None, now: datetime) -> list[str]:
    """Everything about one running `shoal up`; `load` is None where its gateway does not answer."""
    gateway = report.gateway
    state = "ready" if gateway.ready else "not ready"
    again = f", started again {_times(gateway.restarts)}: {gateway.last_words}" if gateway.restarts else ""
    lines = [f"http://{report.address}/v1  (shoal up, pid {report.pid}; gateway {state}{again})"]
    if report.manifest_fault:
        lines.append(f"  the files are not carried out: {report.manifest_fault}")
    for model in report.models:
        lines += [f"  {line}" for line in _model(model, load.models if load else None, now)]
    return lines


def _model(model: ModelReport, loads: Mapping[str, ModelLoad] | None, now: datetime) -> list[str]:
    status = model.status
    counts = f"{status.ready_replicas} of {status.desired_replicas} replicas ready"
    if loads is None:
        requests = "load unknown"
    else:
        load = loads.get(model.id, ModelLoad())
        requests = f"{load.waiting} waiting, {load.in_flight} in flight"
    lines = [f"{model.id}  {counts}, {requests}, revision {status.revision}"]
    lines.append(f"  names: {', '.join(status.names) or 'none'}")
    lines += [f"  {c.type}={c.status} {c.reason}: {c.message}" for c in status.conditions]
    for replica in model.replicas:
        lines += [f"  {line}" for line in _replica(replica, now)]
    return lines


def _replica(replica: ReplicaReport, now: datetime) -> list[str]:
    seconds = (now - replica.since).total_seconds()
    stage = f" ({replica.stage})" if replica.stage and replica.stage != replica.state else ""
    again = f", started again {_times(replica.restarts)}" if replica.restarts else ""
    lines = [f"{replica.name}  {replica.state}{stage} for {seconds:.0f} s{again}; log {replica.log}"]
    if replica.last_words:
        lines.append(f"  last words: {replica.last_words}")
    return lines


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
