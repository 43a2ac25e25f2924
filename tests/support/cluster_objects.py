"""Objects as an API server shows them: ModelDeployments and EndpointSlices."""

from typing import Any

from shoal_api.labels import HTTP_PORT_NAME, MANAGED_BY, MANAGED_BY_SHOAL, MODEL_UID


def a_model(name: str = "m", namespace: str = "default", uid: str = "", **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "apiVersion": "shoal.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid or f"uid-{name}",
            "creationTimestamp": "2026-01-02T00:00:00Z",
        },
        "spec": {"model": {"source": "hf://org/model"}},
        "status": {"names": [name, f"{name}-alias"]},
    }
    for part, value in fields.items():
        found[part] = {**found[part], **value} if isinstance(value, dict) else value
    return found


def an_endpoint(pod: str = "m-rev-0", host: str = "10.0.0.1", uid: str = "", **conditions: Any) -> dict[str, Any]:
    return {
        "addresses": [host],
        "conditions": {"ready": True, "serving": True, "terminating": False, **conditions},
        "targetRef": {"kind": "Pod", "name": pod, "namespace": "default", "uid": uid or f"uid-{pod}"},
    }


def a_slice(
    *endpoints: dict[str, Any], name: str = "m-abcde", model_uid: str = "uid-m", **fields: Any
) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": fields.pop("namespace", "default"),
            "labels": {MANAGED_BY: MANAGED_BY_SHOAL, MODEL_UID: model_uid},
        },
        "addressType": "IPv4",
        "ports": [{"name": HTTP_PORT_NAME, "port": 30000, "protocol": "TCP"}],
        "endpoints": list(endpoints),
        **fields,
    }
