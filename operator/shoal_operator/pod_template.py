"""Merge what a model owner adds to the pods (`spec.podTemplate`) over what Shoal renders; refuse what breaks it."""

import posixpath
from collections.abc import Mapping
from typing import Any

from shoal_api import engine_flags, labels
from shoal_api.modeldeployment import ModelDeployment
from shoal_api.rules import Fault

ENGINE = "engine"
"""Name of the container that runs the replica program."""
OWN_VOLUMES = "shoal-"
"""How the names of Shoal's volumes begin."""
REPLACEABLE_VOLUME = "shoal-cache"
"""The one volume of Shoal's that may be another one."""
OWN_VARIABLES = frozenset({"POD_NAME", "POD_UID", "POD_IP"})
OWN_PATHS = ("/etc/shoal", "/var/run/shoal", "/dev/shm", "/tmp", "/models", "/dev/termination-log")  # noqa: S108

_KEYS: Mapping[str, str] = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "resourceClaims": "name",
    "schedulingGates": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "hostAliases": "ip",
    "readinessGates": "conditionType",
}
"""By what the items of a list know each other, as in Kubernetes' own merge; all other lists are joined."""

_METADATA = frozenset({"labels", "annotations"})
_OF_THE_ENGINE = frozenset({"name", "env", "volumeMounts", "volumeDevices", "resources", "securityContext"})
_NOT_IN_A_SPEC: Mapping[str, str] = {
    "hostNetwork": "the pods keep to their own network; remove it",
    "hostPID": "the pods keep to their own processes; remove it",
    "hostIPC": "the pods keep to their own memory; remove it",
    "serviceAccountName": "a model's pods run as the model's own service account; remove it",
    "serviceAccount": "a model's pods run as the model's own service account; remove it",
    "automountServiceAccountToken": "a model's pods hold no token for the API server; remove it",
    "restartPolicy": "an engine that dies is always started anew; remove it",
    "terminationGracePeriodSeconds": "is made of spec.rollout.drainSeconds; change that one",
    "activeDeadlineSeconds": "a replica has no end; remove it",
    "nodeName": "goes past the scheduler; use spec.scheduling.nodeSelector",
    "hostname": "Shoal names the pods itself; remove it",
    "subdomain": "Shoal names the pods itself; remove it",
    "setHostnameAsFQDN": "Shoal names the pods itself; remove it",
    "ephemeralContainers": "are added to running pods only; remove it",
}


def merge(rendered: Any, added: Any, field: str = "") -> Any:
    """`added` over `rendered`: mappings field by field, lists by name where their items have one, all else replaced."""
    if isinstance(rendered, dict) and isinstance(added, dict):
        return rendered | {key: merge(rendered.get(key), value, key) for key, value in added.items()}
    if isinstance(rendered, list) and isinstance(added, list):
        return _merge_lists(rendered, added, field)
    return added


def _merge_lists(rendered: list[Any], added: list[Any], field: str) -> list[Any]:
    key = _KEYS.get(field)
    if key is None:
        return rendered + [item for item in added if item not in rendered]
    merged = {item[key]: item for item in rendered}
    for item in added:
        before = merged.get(item[key])
        # A volume of two kinds would be none, a variable with a value and a reference neither.
        merged[item[key]] = item if before is None or field in ("volumes", "env") else merge(before, item)
    return list(merged.values())


def faults(md: ModelDeployment) -> list[Fault]:
    """Everything in `spec.podTemplate` that cannot be merged."""
    template = md.spec.pod_template
    shape = _shape_fault("spec.podTemplate", template, _SHAPE)
    if shape is not None:
        return [shape]
    found = [
        Fault(f"spec.podTemplate.{key}", "a pod template has metadata and spec only; remove it")
        for key in template
        if key not in ("metadata", "spec")
    ]
    spec = template.get("spec", {})
    return [
        *found,
        *_metadata_faults(template.get("metadata", {})),
        *_spec_faults(spec),
        *(
            fault
            for kind in ("containers", "initContainers")
            for index, container in enumerate(spec.get(kind, ()))
            for fault in _container_faults(f"spec.podTemplate.spec.{kind}[{index}]", kind, container)
        ),
    ]


_SHAPE: Mapping[str, Any] = {
    "metadata": {"labels": {}, "annotations": {}},
    "spec": {
        "containers": [{"env": ["name"], "volumeMounts": ["mountPath"], "securityContext": {}}, "name"],
        "initContainers": [{"securityContext": {}}, "name"],
        "volumes": ["name"],
        "securityContext": {},
        "imagePullSecrets": ["name"],
    },
}
"""Which fields must be mappings and lists for the merge to make sense; a list's last entry is its items' key."""


def _shape_fault(path: str, value: Any, shape: Mapping[str, Any]) -> Fault | None:
    if not isinstance(value, dict):
        return Fault(path, "must be a mapping")
    for field, wanted in shape.items():
        if field not in value:
            continue
        fault = (
            _list_fault(f"{path}.{field}", value[field], wanted)
            if isinstance(wanted, list)
            else _shape_fault(f"{path}.{field}", value[field], wanted)
        )
        if fault is not None:
            return fault
    return None


def _list_fault(path: str, value: Any, wanted: list[Any]) -> Fault | None:
    if not isinstance(value, list):
        return Fault(path, "must be a list")
    key, seen = wanted[-1], set()
    for index, item in enumerate(value):
        where = f"{path}[{index}]"
        fault = _shape_fault(where, item, wanted[0] if len(wanted) > 1 else {})
        if fault is not None:
            return fault
        if not isinstance(item.get(key), str):
            return Fault(where, f"needs a {key}")
        if item[key] in seen:
            return Fault(where, f"the {key} {item[key]} stands twice in the list")
        seen.add(item[key])
    return None


def _metadata_faults(metadata: Mapping[str, Any]) -> list[Fault]:
    where = "spec.podTemplate.metadata"
    found = [Fault(f"{where}.{key}", "only labels and annotations can be added") for key in metadata.keys() - _METADATA]
    ours = [
        f"{where}.{kind}[{key}]"
        for kind in sorted(_METADATA)
        for key in metadata.get(kind, {})
        if key == labels.MANAGED_BY or key.startswith(labels.PREFIX)
    ]
    return found + [Fault(path, "Shoal sets it itself and finds its pods by it; remove it") for path in ours]


def _spec_faults(spec: Mapping[str, Any]) -> list[Fault]:
    where = "spec.podTemplate.spec"
    found = [Fault(f"{where}.{key}", sentence) for key, sentence in _NOT_IN_A_SPEC.items() if key in spec]
    for index, volume in enumerate(spec.get("volumes", ())):
        path = f"{where}.volumes[{index}]"
        if volume["name"].startswith(OWN_VOLUMES) and volume["name"] != REPLACEABLE_VOLUME:
            found.append(Fault(path, f"names that begin with {OWN_VOLUMES} are Shoal's; choose another"))
        if "hostPath" in volume:
            found.append(Fault(f"{path}.hostPath", "folders of the nodes come in by file:// sources only; use a claim"))
    return found


def _container_faults(where: str, kind: str, container: Mapping[str, Any]) -> list[Fault]:
    found = []
    if (container.get("securityContext") or {}).get("privileged"):
        found.append(Fault(f"{where}.securityContext.privileged", "containers with the node's rights are refused"))
    if container["name"] != ENGINE:
        return found
    if kind != "containers":
        return [*found, Fault(where, f"the name {ENGINE} is taken; choose another")]
    for key in sorted(container.keys() - _OF_THE_ENGINE):
        use = _INSTEAD.get(key, "remove it")
        found.append(Fault(f"{where}.{key}", f"Shoal sets it itself for the container {ENGINE}; {use}"))
    for index, variable in enumerate(container.get("env", ())):
        if variable["name"] in OWN_VARIABLES or engine_flags.is_forbidden_env(variable["name"]):
            found.append(Fault(f"{where}.env[{index}]", f"Shoal sets {variable['name']} itself; remove it"))
    for index, mount in enumerate(container.get("volumeMounts", ())):
        if any(_overlap(mount["mountPath"], own) for own in OWN_PATHS):
            found.append(Fault(f"{where}.volumeMounts[{index}]", f"{mount['mountPath']} is Shoal's; choose another"))
    return found


_INSTEAD: Mapping[str, str] = {
    "image": "use spec.engine.image",
    "args": "use spec.engine.args",
    "envFrom": "name the variables in spec.engine.env",
}


def _overlap(path: str, own: str) -> bool:
    path = posixpath.normpath(path)
    return path == own or path.startswith(own + "/") or own.startswith(path.rstrip("/") + "/")
