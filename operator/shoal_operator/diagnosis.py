"""Diagnose an installation on a cluster from what was read of it: what is wrong, and what to type."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from shoal_api.modeldeployment import VERSION
from shoal_operator.kinds import Manifest

OLDEST_MINOR = 29
"""CEL rules in CRDs are generally available from Kubernetes 1.29 on."""
LEASE_PATIENCE = timedelta(seconds=30)
_HEALTHY_WAITING = frozenset({"ContainerCreating", "PodInitializing"})


class Grade(StrEnum):
    """How bad a finding is."""

    FINE = "ok"
    UNKNOWN = "?"
    """It could not be read."""
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    grade: Grade
    sentence: str
    remedy: str = ""
    """What to type or to change."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read; None stands for what could not be read."""

    namespace: str
    """Where Shoal itself is installed."""
    now: datetime
    server: tuple[int, int] | None
    """Major and minor version of Kubernetes."""
    unreachable: str = ""
    crd: Manifest | None = None
    our_crd: Mapping[str, Any] | None = None
    """As this version of Shoal renders it."""
    deployments: tuple[Manifest, ...] = ()
    """Deployments of the release."""
    pods: tuple[Manifest, ...] = ()
    """Their pods."""
    lease: Manifest | None = None
    missing_secrets: tuple[str, ...] = ()
    denied: tuple[str, ...] | None = ()
    """`verb resource` for what the operator's service account needs and may not do; None: nobody could be asked."""
    nodes: tuple[Manifest, ...] | None = None
    models: tuple[Manifest, ...] = ()


def diagnose(facts: Facts) -> list[Finding]:
    """Everything that was looked at, in the order in which one would mend it."""
    if facts.unreachable:
        return [Finding("cluster", Grade.WRONG, facts.unreachable, "check --kubeconfig and `kubectl version`")]
    findings = [_server(facts), _crd(facts)]
    if not facts.deployments:
        findings.append(
            Finding(
                "installation",
                Grade.WRONG,
                f"no Shoal is installed in the namespace {facts.namespace}",
                "helm install shoal charts/shoal --namespace shoal-system --create-namespace, or name the namespace "
                "with --namespace",
            )
        )
    else:
        findings += [_program(facts, "operator"), _program(facts, "gateway"), _lease(facts), _rights(facts)]
        findings += _secrets(facts)
    return [*findings, *_accelerators(facts), *_models(facts)]


def _server(facts: Facts) -> Finding:
    if facts.server is None:
        return Finding("cluster", Grade.UNKNOWN, "the API server does not tell its version")
    told = f"Kubernetes {facts.server[0]}.{facts.server[1]}"
    if facts.server < (1, OLDEST_MINOR):
        return Finding("cluster", Grade.WRONG, f"{told} is too old", f"Shoal needs 1.{OLDEST_MINOR} or newer")
    return Finding("cluster", Grade.FINE, told)


def _crd(facts: Facts) -> Finding:
    remedy = (
        "helm upgrade shoal charts/shoal (crds.install), or kubectl apply --server-side -f crds/modeldeployments.yaml"
    )
    if facts.crd is None:
        return Finding("CRD", Grade.WRONG, "the kind ModelDeployment of shoal.dev is not known here", remedy)
    conditions = {c["type"]: c for c in facts.crd.get("status", {}).get("conditions", [])}
    accepted = conditions.get("NamesAccepted", {})
    if accepted.get("status") == "False":
        return Finding("CRD", Grade.WRONG, f"its names are not accepted: {accepted.get('message', '')}", remedy)
    there = _schema(facts.crd)
    if there is None:
        return Finding("CRD", Grade.WRONG, f"it does not serve {VERSION}", remedy)
    ours = _schema(facts.our_crd) if facts.our_crd else None
    if ours is not None and there != ours:
        return Finding("CRD", Grade.WRONG, "its fields are those of another version of Shoal than this command", remedy)
    return Finding("CRD", Grade.FINE, f"ModelDeployment {VERSION}")


def _schema(crd: Mapping[str, Any]) -> Any:
    served = (v for v in crd["spec"]["versions"] if v["name"] == VERSION and v.get("served"))
    version = next(served, None)
    return None if version is None else set(_fields(version["schema"]["openAPIV3Schema"]))


def _fields(schema: Mapping[str, Any], path: str = "") -> Iterable[str]:
    """The paths of all fields; schemas are not compared whole, since an API server adds to them."""
    for name, below in schema.get("properties", {}).items():
        yield f"{path}.{name}"
        yield from _fields(below, f"{path}.{name}")
    items = schema.get("items")
    if isinstance(items, dict):
        yield from _fields(items, f"{path}[]")


def _program(facts: Facts, component: str) -> Finding:
    mine = [d for d in facts.deployments if _component(d) == component]
    if not mine:
        return Finding(component, Grade.WRONG, "its Deployment is missing", "helm upgrade the release")
    wanted = sum(d["spec"].get("replicas", 1) for d in mine)
    ready = sum(d.get("status", {}).get("readyReplicas", 0) for d in mine)
    images = sorted({c["image"] for d in mine for c in d["spec"]["template"]["spec"]["containers"]})
    told = f"{ready} of {wanted} pods ready ({', '.join(images)})"
    if ready >= wanted > 0:
        return Finding(component, Grade.FINE, told)
    why = next((w for pod in facts.pods if _component(pod) == component and (w := _pod_trouble(pod))), "")
    remedy = f"kubectl logs --namespace {facts.namespace} deployment/{mine[0]['metadata']['name']}"
    return Finding(component, Grade.WRONG, f"{told}{': ' + why if why else ''}", remedy)


def _component(manifest: Manifest) -> str:
    return str(manifest["metadata"].get("labels", {}).get("app.kubernetes.io/component", ""))


def _pod_trouble(pod: Manifest) -> str:
    status = pod.get("status", {})
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition.get("message", "not scheduled"))
    for container in status.get("containerStatuses", []):
        waiting = container.get("state", {}).get("waiting", {})
        if waiting and waiting.get("reason") not in _HEALTHY_WAITING:
            last = container.get("lastState", {}).get("terminated", {}).get("message", "")
            return f"{waiting.get('reason')}: {last or waiting.get('message', '')}".rstrip(": ")
    return ""


def _lease(facts: Facts) -> Finding:
    spec = (facts.lease or {}).get("spec", {})
    renewed = spec.get("renewTime")
    if not spec.get("holderIdentity") or not renewed:
        return Finding(
            "Lease", Grade.WRONG, "no operator holds it: nothing is carried out", "look at the operator's log"
        )
    age = facts.now - datetime.fromisoformat(renewed)
    told = f"{spec['holderIdentity']} leads, renewed {max(age.total_seconds(), 0):.0f} s ago"
    if age > LEASE_PATIENCE:
        return Finding("Lease", Grade.WRONG, f"{told}: that operator is gone or stuck", "look at the operator's log")
    return Finding("Lease", Grade.FINE, told)


def _rights(facts: Facts) -> Finding:
    if facts.denied is None:
        return Finding("RBAC", Grade.UNKNOWN, "you may not ask what the operator's service account may do")
    if facts.denied:
        remedy = "helm upgrade the release with rbac.create=true, or add these to the operator's role"
        return Finding("RBAC", Grade.WRONG, f"the operator may not: {', '.join(facts.denied)}", remedy)
    return Finding("RBAC", Grade.FINE, "the operator may do what it needs")


def _secrets(facts: Facts) -> list[Finding]:
    if not facts.missing_secrets:
        return [Finding("keys", Grade.FINE, "the Secrets that the programs mount are there")]
    names = ", ".join(facts.missing_secrets)
    remedy = "helm upgrade the release, or make them (docs/how-to/install.md)"
    return [Finding("keys", Grade.WRONG, f"Secrets are missing in {facts.namespace}: {names}", remedy)]


def _accelerators(facts: Facts) -> list[Finding]:
    """Capacity of each resource that a model asks for."""
    wanted: dict[str, list[str]] = {}
    for model in facts.models:
        resources = model["spec"].get("resources", {})
        if resources.get("gpu", 1):
            wanted.setdefault(resources.get("gpuResource", "nvidia.com/gpu"), []).append(_id(model))
    if not wanted:
        return []
    if facts.nodes is None:
        return [Finding("GPUs", Grade.UNKNOWN, "you may not list nodes, so capacity is not known")]
    findings = []
    for resource, models in sorted(wanted.items()):
        counts = [int(node.get("status", {}).get("allocatable", {}).get(resource, 0)) for node in facts.nodes]
        told = f"{sum(counts)} × {resource} on {sum(count > 0 for count in counts)} of {len(counts)} nodes"
        if sum(counts):
            findings.append(Finding("GPUs", Grade.FINE, told))
        else:
            remedy = "install the device plugin of the GPUs, or name the right spec.resources.gpuResource"
            asking = ", ".join(models[:3]) + (" …" if len(models) > 3 else "")
            findings.append(Finding("GPUs", Grade.WRONG, f"{told}, asked for by {asking}", remedy))
    return findings


def _models(facts: Facts) -> list[Finding]:
    return [_model(model) for model in facts.models]


def _model(model: Manifest) -> Finding:
    conditions = {c["type"]: c for c in model.get("status", {}).get("conditions", [])}
    ready = conditions.get("Ready")
    subject = f"model {_id(model)}"
    if ready is None:
        return Finding(subject, Grade.WRONG, "no operator has looked at it", "look at the findings about the operator")
    names = conditions.get("NamesGranted", {})
    told = f"{ready['reason']}: {ready['message']}"
    if ready["status"] != "True":
        remedy = f"docs/how-to/troubleshooting.md, {ready['reason']}"
        return Finding(subject, Grade.WRONG, told, remedy)
    if names.get("status") == "False":
        return Finding(subject, Grade.WRONG, f"{names['reason']}: {names['message']}", "change spec.model.names")
    return Finding(subject, Grade.FINE, told)


def _id(model: Manifest) -> str:
    return f"{model['metadata']['namespace']}/{model['metadata']['name']}"
