"""Render the CustomResourceDefinition from the types: `python -m shoal_api.crd > crds/modeldeployments.yaml`."""

import sys
from typing import Any

import yaml

from shoal_api.modeldeployment import GROUP, KIND, PLURAL, SHORT_NAME, VERSION, ModelDeployment

_HEADER = "# Generated from crds/shoal_api/modeldeployment.py by `make crds`. Do not edit.\n"

_COLUMNS = (
    ("Model", "string", ".spec.model.source"),
    ("Replicas", "integer", ".status.desiredReplicas"),
    ("Ready", "integer", ".status.readyReplicas"),
    ("Waiting", "integer", ".status.load.waiting"),
    ("Age", "date", ".metadata.creationTimestamp"),
)


def definition() -> dict[str, Any]:
    """The CustomResourceDefinition as Kubernetes reads it."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"kind": KIND, "listKind": f"{KIND}List", "plural": PLURAL, "singular": KIND.lower()}
            | {"shortNames": [SHORT_NAME], "categories": ["shoal"]},
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema()},
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "additionalPrinterColumns": [
                        {"name": name, "type": kind, "jsonPath": path} for name, kind, path in _COLUMNS
                    ],
                }
            ],
        },
    }


def schema() -> dict[str, Any]:
    """The structural OpenAPI v3 schema of the resource, defaults and CEL rules included."""
    source = ModelDeployment.model_json_schema(by_alias=True, mode="validation")
    rendered = _structural(source, source.get("$defs", {}))
    properties = rendered["properties"]
    return {
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": properties["spec"],
            "status": {key: value for key, value in properties["status"].items() if key != "default"},
        },
    }


_KEPT = frozenset(
    {"description", "type", "format", "enum", "pattern", "required", "minLength", "maxLength"}
) | frozenset({"minItems", "maxItems", "minProperties", "maxProperties", "minimum", "maximum", "default"})


def _structural(node: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    """A JSON-schema node as Kubernetes wants it: no references, no null arms, draft-4 exclusive bounds."""
    if "$ref" in node:
        target = defs[node["$ref"].rsplit("/", 1)[-1]]
        node = target | {key: value for key, value in node.items() if key != "$ref"}
    arms = [arm for arm in node.get("anyOf", []) if arm.get("type") != "null"]
    if arms:
        (arm,) = arms
        without_arms = {key: value for key, value in node.items() if key not in ("anyOf", "default")}
        return _structural(arm | without_arms, defs)

    result = {key: value for key, value in node.items() if key in _KEPT or key.startswith("x-kubernetes-")}
    for bound, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if bound in node:
            result |= {limit: node[bound], bound: True}
    if "const" in node:
        result["enum"] = [node["const"]]
    if "properties" in node:
        result["properties"] = {name: _structural(child, defs) for name, child in node["properties"].items()}
        _default_objects(result)
    elif node.get("type") == "object" and isinstance(node.get("additionalProperties"), dict):
        result["additionalProperties"] = _structural(node["additionalProperties"], defs)
    if "items" in node:
        result["items"] = _structural(node["items"], defs)
    return result


def _default_objects(node: dict[str, Any]) -> None:
    """Give every optional object or list a default, so that the defaults inside it apply.

    An object's default is written out whole: an API server evaluates rules on it before it fills anything in.
    """
    for name, child in node["properties"].items():
        if name in node.get("required", []) or "default" in child or name in _WITHOUT_DEFAULT:
            continue
        if child.get("type") == "object":
            inside = child.get("properties", {})
            child["default"] = {key: part["default"] for key, part in inside.items() if "default" in part}
        elif child.get("type") == "array":
            child["default"] = []


_WITHOUT_DEFAULT = frozenset(
    {"credentials", "valueFrom", "secretKeyRef", "configMapKeyRef", "lastScale", "scaling"}
) | {"canary"}
"""Optional objects whose absence means something."""


def render() -> str:
    """The YAML text that is committed."""
    return _HEADER + yaml.safe_dump(definition(), sort_keys=False, width=118, allow_unicode=True)


if __name__ == "__main__":
    sys.stdout.write(render())
