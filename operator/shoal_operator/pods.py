"""Render a replica's pods: what a revision keeps, and the pods that are made of it."""

import copy
import json
from typing import Any

from shoal_api import labels, naming
from shoal_api.modeldeployment import ModelDeployment
from shoal_api.replica_config import ReplicaConfig
from shoal_operator import objects, pod_template, rendering, sources
from shoal_operator.installation import Installation
from shoal_operator.objects import Manifest
from shoal_operator.pod_template import ENGINE
from shoal_operator.sources import Origin

CONFIG_FILE = "/etc/shoal/replica/config.json"
SECRET_PATH = "/etc/shoal/secret"  # noqa: S105  (a path)
DIRECTORY = "/var/run/shoal"
USER = 65532

SETTLE_SECONDS = 2
_END_SECONDS = 30
"""What the replica program needs at most to end everything below it, when the drain is over."""
_BOOT_SECONDS = 2
"""A pod may be told to go while its container starts. A signal that comes before the program listens is lost on the
first process of a container, which then would keep its GPU for the whole grace period: so it comes this much later."""
_READABLE_BY_GROUP = 0o440

ABSENT_SECONDS = 30
"""So long after Kubernetes finds a node silent its replicas are given up; Kubernetes' own default is 300."""
_ABSENCES = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def template(md: ModelDeployment, installation: Installation) -> Manifest:
    """What every pod of this revision has in common; kept in the ControllerRevision and rendered only once.

    The manifest must have passed `on_kubernetes.refusals`.
    """
    origin = sources.origin(md, installation)
    config = _config(md, origin)
    rendered: Manifest = {
        "metadata": {
            "labels": {},
            "annotations": {labels.REPLICA_CONFIG: config.model_dump_json(by_alias=True, exclude_defaults=True)},
        },
        "spec": _spec(md, origin, installation),
    }
    merged: Manifest = pod_template.merge(rendered, md.spec.pod_template)
    return merged


def beside(made: list[Manifest], priority_class: str) -> list[Manifest]:
    """The same pods for a replica that stands beside the old ones: a pod without a class of its own gets this one."""
    made = copy.deepcopy(made)
    for pod in made:
        pod["metadata"]["annotations"][labels.SURGE] = "true"
        if priority_class and not pod["spec"].get("priorityClassName"):
            pod["spec"]["priorityClassName"] = priority_class
    return made


def pods(md: ModelDeployment, replica_name: str, index: int, revision: str, template: Manifest) -> list[Manifest]:
    """The pods of one replica, rank 0 first. All that depends on the spec comes from the template: it may be older."""
    text = template["metadata"]["annotations"][labels.REPLICA_CONFIG]
    config = json.loads(text)
    count = config.get("nodes", 1)
    if count == 1:
        return [_pod(md, replica_name, replica_name, 0, revision, template, text)]
    head = f"{replica_name}.{objects.gang_service_name(md)}.{md.metadata.namespace}.svc:{objects.RAY_PORT}"
    names = [replica_name] + [
        naming.object_name(md.metadata.name, revision, str(index), f"r{rank}") for rank in range(1, count)
    ]
    made = []
    for rank, name in enumerate(names):
        # Only what is new is added: the replica program of an older image refuses fields that it does not know.
        own_text = json.dumps(config | {"rank": rank, "head": head})
        pod = _pod(md, name, replica_name, rank, revision, template, own_text)
        pod["metadata"]["labels"][labels.GANG] = "true"
        pod["spec"] |= {"hostname": name, "subdomain": objects.gang_service_name(md)}
        if rank > 0:
            _wait_without_port(pod)
        made.append(pod)
    return made


def _pod(
    md: ModelDeployment, name: str, replica: str, rank: int, revision: str, template: Manifest, config: str
) -> Manifest:
    made = copy.deepcopy(template)
    ours = {labels.REVISION: revision, labels.REPLICA: replica, labels.RANK: str(rank)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": md.metadata.namespace,
            "labels": made["metadata"].get("labels", {}) | objects.model_labels(md) | ours,
            "annotations": made["metadata"]["annotations"] | {labels.REPLICA_CONFIG: config},
            "ownerReferences": [objects.owner_reference(md)],
        },
        "spec": made["spec"],
    }


def _wait_without_port(pod: Manifest) -> None:
    """A rank beside the first has no port: it is ready while its program runs."""
    engine = next(container for container in pod["spec"]["containers"] if container["name"] == ENGINE)
    del engine["readinessProbe"], engine["ports"]


def _config(md: ModelDeployment, origin: Origin) -> ReplicaConfig:
    spec = md.spec
    return ReplicaConfig.model_validate(
        {
            "model": md.id,
            "revision": rendering.revision(md),
            "servedName": md.canonical_name,
            "source": origin.loads,
            "args": [*origin.args, *spec.engine.args],
            "tensor": spec.parallelism.tensor,
            "pipeline": spec.parallelism.pipeline,
            "gpus": spec.resources.gpu,
            "nodes": spec.pods_of_a_replica,
            "drainSeconds": spec.rollout.drain_seconds,
            "settleSeconds": SETTLE_SECONDS,
            "modelKeyFile": f"{SECRET_PATH}/{objects.MODEL_KEY}",
            "rayTokenFile": f"{SECRET_PATH}/{objects.RAY_TOKEN}",
            "directory": DIRECTORY,
        }
    )


def _spec(md: ModelDeployment, origin: Origin, installation: Installation) -> Manifest:
    scheduling, own = md.spec.scheduling, objects.own_name(md)
    cache_volume, cache_mount = sources.cache(md, installation)
    config = {"path": CONFIG_FILE.rpartition("/")[2], "fieldRef": _field(f"['{labels.REPLICA_CONFIG}']", "annotations")}
    spec: Manifest = {
        "containers": [_engine(md, origin, cache_mount, installation)],
        "volumes": [
            {"name": "shoal-config", "downwardAPI": {"items": [config], "defaultMode": _READABLE_BY_GROUP}},
            {"name": "shoal-secret", "secret": {"secretName": own, "defaultMode": _READABLE_BY_GROUP}},
            {"name": "shoal-run", "emptyDir": {}},
            {"name": "shoal-tmp", "emptyDir": {}},
            {
                "name": "shoal-shm",
                "emptyDir": {"medium": "Memory", "sizeLimit": md.spec.resources.shared_memory},
            },
            cache_volume,
            *origin.volumes,
        ],
        "serviceAccountName": own,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": _BOOT_SECONDS + md.spec.rollout.drain_seconds + SETTLE_SECONDS + _END_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "imagePullSecrets": [{"name": name} for name in installation.image_pull_secrets],
        "nodeSelector": dict(scheduling.node_selector),
        "tolerations": [*_tolerations(md), *scheduling.tolerations],
        "affinity": scheduling.affinity,
        "topologySpreadConstraints": scheduling.topology_spread,
        "priorityClassName": scheduling.priority_class_name,
        "runtimeClassName": scheduling.runtime_class_name,
        "schedulerName": scheduling.scheduler_name,
    }
    return {field: value for field, value in spec.items() if value not in ("", [], {})}


def _engine(md: ModelDeployment, origin: Origin, cache_mount: Manifest, installation: Installation) -> Manifest:
    return {
        "name": ENGINE,
        "image": md.spec.engine.image or installation.engine_image,
        "imagePullPolicy": installation.image_pull_policy,
        "args": ["--config", CONFIG_FILE],
        "env": _env(md, origin, installation),
        "ports": [{"name": labels.HTTP_PORT_NAME, "containerPort": labels.HTTP_PORT, "protocol": "TCP"}],
        "readinessProbe": {
            "httpGet": {"path": "/health", "port": labels.HTTP_PORT_NAME},
            "periodSeconds": 1,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
        "resources": _resources(md),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(_BOOT_SECONDS)]}}},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "volumeMounts": [
            {"name": "shoal-config", "mountPath": CONFIG_FILE.rpartition("/")[0], "readOnly": True},
            {"name": "shoal-secret", "mountPath": SECRET_PATH, "readOnly": True},
            {"name": "shoal-run", "mountPath": DIRECTORY},
            {"name": "shoal-tmp", "mountPath": "/tmp"},  # noqa: S108  (an emptyDir of the pod's own)
            {"name": "shoal-shm", "mountPath": "/dev/shm"},  # noqa: S108  (the pod's own)
            cache_mount,
            *origin.mounts,
        ],
    }


def _env(md: ModelDeployment, origin: Origin, installation: Installation) -> list[Manifest]:
    variables: list[Manifest] = [
        {"name": "POD_NAME", "valueFrom": {"fieldRef": _field(".name")}},
        {"name": "POD_UID", "valueFrom": {"fieldRef": _field(".uid")}},
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}},
        {"name": "HOME", "value": DIRECTORY},
        {"name": "USER", "value": "shoal"},  # libraries that ask who they run as find no such user in the image
        {"name": "TMPDIR", "value": DIRECTORY},
        {"name": "XDG_CACHE_HOME", "value": sources.CACHE_PATH},
        {"name": "HF_HOME", "value": f"{sources.CACHE_PATH}/huggingface"},
        *origin.env,
    ]
    if installation.offline:
        variables.append({"name": "HF_HUB_OFFLINE", "value": "1"})
    if md.spec.resources.gpu == 0:
        # Where NVIDIA's runtime is the node's default, a pod that asks for no GPU sees all of them.
        variables.append({"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"})
    chosen = [variable.model_dump(mode="json", by_alias=True, exclude_none=True) for variable in md.spec.engine.env]
    merged: list[Manifest] = pod_template.merge(variables, [_either(variable) for variable in chosen], "env")
    return merged


def _either(variable: Manifest) -> Manifest:
    """An API server refuses a reference beside a value, be it empty."""
    return {key: value for key, value in variable.items() if key != "value" or "valueFrom" not in variable}


def _resources(md: ModelDeployment) -> Manifest:
    asked = md.spec.resources
    limits = {"memory": asked.memory}
    if asked.gpu:
        # No limit of cores: the threads of an engine on GPUs would be held up in the middle of a step.
        limits[asked.gpu_resource] = str(asked.gpu)
    else:
        limits["cpu"] = asked.cpu
    return {"requests": limits | {"cpu": asked.cpu}, "limits": limits}


def _tolerations(md: ModelDeployment) -> list[Manifest]:
    """Nodes with GPUs often keep away whoever asks for none. Of an absent node the model's owner may say otherwise."""
    asked, added = md.spec.resources, md.spec.pod_template.get("spec", {}).get("tolerations", [])
    chosen = [_tolerated(toleration) for toleration in (*md.spec.scheduling.tolerations, *added)]
    gpus = [{"key": asked.gpu_resource, "operator": "Exists", "effect": "NoSchedule"}] if asked.gpu else []
    return gpus + [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": ABSENT_SECONDS}
        for key in _ABSENCES
        if not any(of in ("", key) and effect in ("", "NoExecute") for of, effect in chosen)
    ]


def _tolerated(toleration: Manifest) -> tuple[str, str]:
    """Which taints it is about: key and effect, where nothing stands for all."""
    return str(toleration.get("key") or ""), str(toleration.get("effect") or "")


def _field(path: str, of: str = "") -> dict[str, Any]:
    return {"apiVersion": "v1", "fieldPath": f"metadata{'.' + of if of else ''}{path}"}
