"""Read from a cluster what `shoal doctor`, `shoal status` and `shoal logs` tell; changes nothing.

A diagnosis leaves out what may not be read; of everything else that is a fault: nothing there and nothing shown differ.
"""

from datetime import datetime
from typing import Any

from shoal_api import crd, labels, modeldeployment
from shoal_operator import kinds, pod_template
from shoal_operator.api_faults import ApiFault, Unreachable
from shoal_operator.cluster import Cluster
from shoal_operator.diagnosis import Facts
from shoal_operator.kinds import Kind, Manifest

CONTAINER = pod_template.ENGINE
"""The container of a replica's pod whose log tells about the engine."""
OF_THE_RELEASE = "app.kubernetes.io/part-of=shoal"
_DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
_DEFINITION = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions")
_REVIEW = Kind("authorization.k8s.io/v1", "SubjectAccessReview", "subjectaccessreviews")

NEEDS: tuple[tuple[Kind, str, tuple[str, ...]], ...] = (
    (kinds.MODEL, "", ("list", "watch")),
    (kinds.MODEL, "status", ("patch",)),
    (kinds.POD, "", ("get", "list", "watch", "create", "delete")),
    (kinds.SERVICE, "", ("get", "list", "watch", "create", "patch")),
    (kinds.SERVICE_ACCOUNT, "", ("get", "list", "watch", "create", "patch")),
    (kinds.SECRET, "", ("get", "create", "patch")),
    (kinds.CONFIG_MAP, "", ("get",)),
    (kinds.CLAIM, "", ("get",)),
    (kinds.REVISION, "", ("get", "list", "watch", "create", "update", "delete")),
    (kinds.EVENT, "", ("get", "list", "create", "patch")),
)
"""What an operator cannot work without; the chart's role is compared with it by a test."""


async def facts(cluster: Cluster, namespace: str, now: datetime) -> Facts:
    """Everything that a diagnosis looks at; what may not be read is None or left out."""
    try:
        server = _version(await cluster.read("/version"))
    except (Unreachable, ApiFault) as fault:
        return Facts(namespace, now, None, unreachable=f"the API server does not answer: {fault}")
    deployments = await _list(cluster, _DEPLOYMENT, namespace, OF_THE_RELEASE) or []
    pods = await _list(cluster, kinds.POD, namespace, OF_THE_RELEASE) or []
    nodes = await _list(cluster, kinds.NODE, None)
    operator = next((d for d in deployments if _component(d) == "operator"), None)
    return Facts(
        namespace,
        now,
        server,
        crd=await _get(cluster, _DEFINITION, None, f"{modeldeployment.PLURAL}.{modeldeployment.GROUP}"),
        our_crd=crd.definition(),
        deployments=tuple(deployments),
        pods=tuple(pods),
        lease=await _get(cluster, kinds.LEASE, namespace, _flag(operator, "--lease-name")) if operator else None,
        missing_secrets=tuple([name for name in _secrets(deployments) if await _is_missing(cluster, namespace, name)]),
        denied=await _denied(cluster, operator) if operator else (),
        nodes=None if nodes is None else tuple(nodes),
        models=tuple(await _list(cluster, kinds.MODEL, None) or []),
    )


async def models(cluster: Cluster, namespace: str | None) -> list[Manifest]:
    """The models of a namespace, or of all; none where the kind is not known."""
    try:
        return (await cluster.find_all(kinds.MODEL, namespace)).objects
    except ApiFault as fault:
        if fault.status == 404:
            return []
        raise


async def replicas(cluster: Cluster, model: Manifest) -> list[Manifest]:
    """The pods of a model, oldest first."""
    selector = f"{labels.MODEL_UID}={kinds.uid(model)}"
    found = await cluster.find_all(kinds.POD, kinds.namespace(model), selector)
    return sorted(found.objects, key=lambda pod: str(pod["metadata"].get("creationTimestamp")))


async def revisions(cluster: Cluster, model: Manifest) -> list[Manifest]:
    """The records of a model's revisions."""
    selector = f"{labels.MODEL_UID}={kinds.uid(model)}"
    return (await cluster.find_all(kinds.REVISION, kinds.namespace(model), selector)).objects


async def _denied(cluster: Cluster, operator: Manifest) -> tuple[str, ...] | None:
    """What the operator's service account needs and may not do, in the first namespace that it watches."""
    account = operator["spec"]["template"]["spec"].get("serviceAccountName", "default")
    watched = _flag(operator, "--namespaces").split(",")[0]
    denied = []
    for kind, subresource, verbs in NEEDS:
        for verb in verbs:
            attributes = {"verb": verb, "group": kind.group, "resource": kind.plural, "subresource": subresource}
            review = {
                "apiVersion": _REVIEW.api_version,
                "kind": _REVIEW.name,
                "spec": {
                    "user": f"system:serviceaccount:{kinds.namespace(operator)}:{account}",
                    "groups": ["system:serviceaccounts", f"system:serviceaccounts:{kinds.namespace(operator)}"],
                    "resourceAttributes": attributes | ({"namespace": watched} if watched else {}),
                },
            }
            try:
                answer = await cluster.ask(_REVIEW, review)
            except ApiFault as fault:
                if fault.status == 403:
                    return None
                raise
            if not answer["status"]["allowed"]:
                denied.append(f"{verb} {kind.plural}{'/' + subresource if subresource else ''}")
    return tuple(denied)


def _flag(deployment: Manifest, name: str) -> str:
    words: list[str] = [w for c in deployment["spec"]["template"]["spec"]["containers"] for w in c.get("args", [])]
    return next((word.partition("=")[2] for word in words if word.startswith(f"{name}=")), "")


def _secrets(deployments: list[Manifest]) -> list[str]:
    """The Secrets that the programs mount."""
    volumes = [v for d in deployments for v in d["spec"]["template"]["spec"].get("volumes", [])]
    return sorted({v["secret"]["secretName"] for v in volumes if "secret" in v})


async def _is_missing(cluster: Cluster, namespace: str, name: str) -> bool:
    """Who may not read Secrets is told nothing about them."""
    try:
        return await cluster.get(kinds.SECRET, namespace, name) is None
    except ApiFault as fault:
        if fault.status == 403:
            return False
        raise


async def _get(cluster: Cluster, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
    try:
        return await cluster.get(kind, namespace, name)
    except ApiFault as fault:
        if fault.status == 403:
            return None
        raise


async def _list(cluster: Cluster, kind: Kind, namespace: str | None, selector: str = "") -> list[Manifest] | None:
    """None where it may not be listed or the kind is not known."""
    try:
        return (await cluster.find_all(kind, namespace, selector)).objects
    except ApiFault as fault:
        if fault.status in (403, 404):
            return None
        raise


def _component(manifest: Manifest) -> str:
    return kinds.label(manifest, "app.kubernetes.io/component")


def _version(told: Any) -> tuple[int, int] | None:
    digits = ["".join(filter(str.isdigit, str(told.get(part, "")))) for part in ("major", "minor")]
    return (int(digits[0]), int(digits[1])) if all(digits) else None
