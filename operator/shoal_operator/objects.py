"""Render the small objects around a model's replicas: how they are found, who they are, what they keep secret."""

import base64
from typing import Any

from shoal_api import labels, naming, proof
from shoal_api.modeldeployment import API_VERSION, KIND, ModelDeployment

Manifest = dict[str, Any]

MODEL_KEY = "model-key"
"""Key of the model's Secret; the gateways derive the same value."""
RAY_TOKEN = "ray-token"  # noqa: S105  (a name)
"""Key of the model's Secret: by it the processes of one replica's Ray cluster know each other."""

MADE_FROM = "madeFrom"
"""In the data of a ControllerRevision: the part of the spec that it was rendered from."""

RAY_PORT = 6379
RAY_PORT_NAME = "ray"

_OURS = "shoal"


def service(md: ModelDeployment) -> Manifest:
    """The headless Service of the model's replicas; its EndpointSlices are what gateways route by."""
    port = {"name": labels.HTTP_PORT_NAME, "port": labels.HTTP_PORT, "targetPort": labels.HTTP_PORT}
    return _object(md, "v1", "Service", _service_name(md, _OURS)) | {
        "spec": {"clusterIP": "None", "selector": _rank_0(md), "ports": [{**port, "protocol": "TCP"}]}
    }


def gang_service(md: ModelDeployment) -> Manifest | None:
    """The Service that gives rank 0 of each gang a name in DNS before it is ready; None for replicas of one pod.

    It carries no MANAGED_BY: gateways must never see its EndpointSlices.
    """
    if md.spec.pods_of_a_replica == 1:
        return None
    made = _object(md, "v1", "Service", gang_service_name(md))
    del made["metadata"]["labels"][labels.MANAGED_BY]
    port = {"name": RAY_PORT_NAME, "port": RAY_PORT, "targetPort": RAY_PORT, "protocol": "TCP"}
    return made | {
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": _rank_0(md),
            "ports": [port],
        }
    }


def gang_service_name(md: ModelDeployment) -> str:
    return _service_name(md, _OURS, "gang")


def service_account(md: ModelDeployment, master_key: bytes) -> Manifest:
    """Whom the model's pods are to the API server: somebody who may do nothing and holds no token.

    It says which key the Secret holds, so that nobody has to read Secrets to see that the master key is another.
    """
    made = _object(md, "v1", "ServiceAccount", own_name(md)) | {"automountServiceAccountToken": False}
    key = proof.model_key(master_key, md.metadata.uid)
    made["metadata"]["annotations"] = {labels.KEY: proof.fingerprint(key)}
    return made


def secret(md: ModelDeployment, master_key: bytes) -> Manifest:
    """What the model's replicas may know of the installation's keys. Derived, so it is the same each time."""
    uid = md.metadata.uid
    values = {MODEL_KEY: proof.model_key(master_key, uid), RAY_TOKEN: proof.ray_token(master_key, uid)}
    data = {name: base64.b64encode(value.hex().encode()).decode() for name, value in values.items()}
    return _object(md, "v1", "Secret", own_name(md)) | {"type": "Opaque", "data": data}


def controller_revision(
    md: ModelDeployment,
    revision: str,
    template: Manifest,
    number: int,
    made_from: Manifest | None = None,
    *,
    is_canary: bool = False,
) -> Manifest:
    """A revision as it is kept: pods are always made from the template in here, whatever a later operator renders.

    `made_from` is the part of the spec that the revision is the hash of; by it an owner comes back to the revision.
    """
    made = _object(md, "apps/v1", "ControllerRevision", naming.object_name(md.metadata.name, revision))
    made["metadata"]["labels"][labels.REVISION] = revision
    if is_canary:
        made["metadata"]["annotations"] = {labels.CANARY: "true"}
    data = {"template": template} | ({MADE_FROM: made_from} if made_from else {})
    return made | {"revision": number, "data": data}


def own_name(md: ModelDeployment) -> str:
    """The name of the model's Secret and ServiceAccount."""
    return naming.object_name(md.metadata.name, _OURS)


def owner_reference(md: ModelDeployment) -> Manifest:
    """With this, Kubernetes itself removes what we made when the ModelDeployment goes."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": md.metadata.name,
        "uid": md.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def model_labels(md: ModelDeployment) -> dict[str, str]:
    """What everything of this model is labelled with. A name that fits into a label stands there as it is."""
    name = md.metadata.name
    return {
        labels.MANAGED_BY: labels.MANAGED_BY_SHOAL,
        labels.MODEL: name if len(name) <= naming.LABEL_LIMIT else naming.object_name(name),
        labels.MODEL_UID: md.metadata.uid,
    }


def _rank_0(md: ModelDeployment) -> dict[str, str]:
    return {labels.MODEL_UID: md.metadata.uid, labels.RANK: "0"}


def _service_name(md: ModelDeployment, *suffixes: str) -> str:
    """The name of a Service, which must begin with a letter where those of other objects need not."""
    name = md.metadata.name
    return naming.object_name(name if name[0].isalpha() else f"m_{name}", *suffixes)


def _object(md: ModelDeployment, api_version: str, kind: str, name: str) -> Manifest:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": md.metadata.namespace,
            "labels": model_labels(md),
            "ownerReferences": [owner_reference(md)],
        },
    }
