"""The commands about one model's rollout on a cluster: `shoal rollout status`, `undo` and `promote`."""

from collections.abc import Sequence
from pathlib import Path

from shoal_api import labels
from shoal_operator import cluster_commands, cluster_telling, inspecting, kinds, rollout_telling, undoing
from shoal_operator.api_faults import ApiFault, NotThere
from shoal_operator.cluster import Cluster
from shoal_operator.flags import Say
from shoal_operator.kinds import Manifest
from shoal_operator.status_report import UpReport

UNDOES = "shoal-rollout-undo"
"""Field manager of what `undo` writes: a later `kubectl apply --server-side` says whom it would overrule."""
PROMOTES = "shoal-rollout-promote"


def status(kubeconfig: Path | None, namespace: str, name: str, say: Say) -> int:
    """0 where the rollout is complete."""

    async def look(door: Cluster) -> int:
        model = await _model(door, namespace, name)
        pods, records = await inspecting.replicas(door, model), await inspecting.revisions(door, model)
        say("\n".join(rollout_telling.describe(model, pods, records)))
        return 0 if rollout_telling.is_complete(model) else 1

    return cluster_commands.with_cluster(kubeconfig, look)


def undo(kubeconfig: Path | None, namespace: str, name: str, to: str, say: Say) -> int:
    """Write the spec of an earlier revision back."""

    async def write(door: Cluster) -> int:
        model = await _model(door, namespace, name)
        current = undoing.asked_for(model)
        record = undoing.earlier(await inspecting.revisions(door, model), current, to)
        back, left = kinds.revision(record), (current or ["the present one"])[0]
        if back in current:
            say(f"{namespace}/{name} asks for revision {back} already")
            return 0
        try:
            await door.replace(kinds.MODEL, undoing.manifest(model, record))
        except ApiFault as fault:
            if not fault.is_conflict:
                raise
            raise NotThere(f"{namespace}/{name} was changed just now; look at it and try again") from fault
        say(f"{namespace}/{name} asks for revision {back} again, not for {left}")
        for sentence in undoing.reminders(model, left):
            say(f"note: {sentence}")
        return 0

    return cluster_commands.with_cluster(kubeconfig, write, field_manager=UNDOES)


def promote(kubeconfig: Path | None, namespace: str, name: str, say: Say) -> int:
    """Let the canary take over."""

    async def write(door: Cluster) -> int:
        model = await _model(door, namespace, name)
        current = str(model.get("status", {}).get("revision", ""))
        records = await inspecting.revisions(door, model)
        canaries = [r for r in records if kinds.annotation(r, labels.CANARY) and kinds.revision(r) == current]
        if not canaries:
            progress = cluster_telling.condition(model, "Progressing")
            said = f"{progress['reason']}: {progress['message']}" if progress else "not looked at yet"
            raise NotThere(f"{namespace}/{name} has no canary that waits ({said})")
        change: Manifest = {"metadata": {"annotations": {labels.PROMOTED: current}}}
        await door.patch(kinds.MODEL, namespace, name, change)
        say(f"{namespace}/{name}: revision {current} takes over; see shoal rollout status {name} -n {namespace}")
        return 0

    return cluster_commands.with_cluster(kubeconfig, write, field_manager=PROMOTES)


def local_status(running: Sequence[UpReport], model_id: str, say: Say) -> int | None:
    """The same for a model of a running `shoal up`; None where none serves it."""
    found = next((model for report in running for model in report.models if model.id == model_id), None)
    if found is None:
        return None
    say("\n".join(rollout_telling.describe_local(found)))
    complete = any(c.type == "Progressing" and c.reason == "Complete" for c in found.status.conditions)
    return 0 if complete else 1


async def _model(door: Cluster, namespace: str, name: str) -> Manifest:
    model = await door.get(kinds.MODEL, namespace, name)
    if model is None:
        raise NotThere(f"there is no ModelDeployment {name} in the namespace {namespace}; name it with --namespace")
    return model
