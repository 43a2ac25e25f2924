"""The commands that look at a cluster: `shoal doctor`, `shoal logs`, and `shoal status` there."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from shoal_operator import cluster, cluster_telling, diagnosis, inspecting, kinds
from shoal_operator.api_faults import ApiFault, NotThere, Unreachable
from shoal_operator.cluster import Cluster
from shoal_operator.diagnosis import Grade
from shoal_operator.flags import Say
from shoal_operator.kinds import Manifest


def doctor(kubeconfig: Path | None, namespace: str, say: Say) -> int:
    """0 where nothing is wrong."""

    async def look(door: Cluster) -> int:
        facts = await inspecting.facts(door, namespace, datetime.now(UTC))
        findings = diagnosis.diagnose(facts)
        for finding in findings:
            say(f"{finding.grade:<6} {finding.subject}: {finding.sentence}")
            if finding.grade is Grade.WRONG and finding.remedy:
                say(f"       → {finding.remedy}")
        wrong = sum(finding.grade is Grade.WRONG for finding in findings)
        say(f"{wrong} wrong" if wrong else "nothing is wrong")
        return 1 if wrong else 0

    return with_cluster(kubeconfig, look)


def status(kubeconfig: Path | None, namespace: str | None, say: Say) -> int:
    """Every model of the namespace, or of all; 1 where there is none."""

    async def look(door: Cluster) -> int:
        models = await inspecting.models(door, namespace)
        now = datetime.now(UTC)
        for model in models:
            say("\n".join(cluster_telling.describe(model, await inspecting.replicas(door, model), now)))
        if not models:
            say(f"no ModelDeployment in {namespace or 'any namespace'}; make one with: kubectl apply -f model.yaml")
        return 0 if models else 1

    return with_cluster(kubeconfig, look)


def logs(
    kubeconfig: Path | None, namespace: str, name: str, *, follow: bool, tail: int, previous: bool, say: Say
) -> int:
    """The logs of every pod of the model, each line with its pod's name where there are several."""

    async def look(door: Cluster) -> int:
        model = await door.get(kinds.MODEL, namespace, name)
        if model is None:
            raise NotThere(f"there is no ModelDeployment {name} in the namespace {namespace}; name it with --namespace")
        pods = await inspecting.replicas(door, model)
        if not pods:
            ready = cluster_telling.condition(model, "Ready")
            raise NotThere(f"{namespace}/{name} has no replica now ({ready.get('reason', 'not looked at yet')})")
        asked = {"tailLines": str(tail), "container": inspecting.CONTAINER}
        asked |= {"follow": "true"} if follow else {}
        asked |= {"previous": "true"} if previous else {}
        await asyncio.gather(*(_print(door, pod, asked, len(pods) > 1, say) for pod in pods))
        return 0

    return with_cluster(kubeconfig, look)


async def _print(door: Cluster, pod: Manifest, asked: dict[str, str], is_named: bool, say: Say) -> None:
    prefix = f"{kinds.name(pod)}  " if is_named else ""
    try:
        async for line in door.log(kinds.namespace(pod), kinds.name(pod), asked):
            say(prefix + line)
    except ApiFault as fault:
        say(f"{kinds.name(pod)}: no log ({fault.message})")
    except Unreachable as fault:
        say(f"{kinds.name(pod)}: no more log ({fault})")


def with_cluster(kubeconfig: Path | None, look: Callable[[Cluster], Awaitable[int]], *, field_manager: str = "") -> int:
    """The exit status of what is done with a cluster; nothing is written unless a `field_manager` is named."""

    async def run() -> int:
        found = await cluster.configuration(kubeconfig)
        may_write = bool(field_manager)
        door = Cluster(found, may_write=lambda: may_write, field_manager=field_manager or cluster.FIELD_MANAGER)
        try:
            return await look(door)
        except Unreachable as fault:
            raise NotThere(f"the cluster does not answer: {fault}; check --kubeconfig") from fault
        except ApiFault as fault:
            raise NotThere(f"the cluster refuses: {fault}; check --kubeconfig and --namespace") from fault
        finally:
            await door.close()

    return asyncio.run(run())
