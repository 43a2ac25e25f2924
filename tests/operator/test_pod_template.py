"""What a model owner may add to the pods, and what is refused by name."""

from typing import Any

import pytest

from builders import a_model
from shoal_operator import pod_template

ENGINE = {"name": "engine"}


@pytest.mark.parametrize(
    ("rendered", "added", "merged"),
    [
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}}, {"a": {"b": 1, "c": 3}}),
        (
            {"tolerations": [{"key": "a"}]},
            {"tolerations": [{"key": "b"}]},
            {"tolerations": [{"key": "a"}, {"key": "b"}]},
        ),
        ({"tolerations": [{"key": "a"}]}, {"tolerations": [{"key": "a"}]}, {"tolerations": [{"key": "a"}]}),
        (
            {"containers": [{"name": "engine", "image": "i"}]},
            {"containers": [{"name": "side"}, {"name": "engine", "resources": {}}]},
            {"containers": [{"name": "engine", "image": "i", "resources": {}}, {"name": "side"}]},
        ),
        (
            {"volumes": [{"name": "shoal-cache", "emptyDir": {}}]},
            {"volumes": [{"name": "shoal-cache", "persistentVolumeClaim": {"claimName": "c"}}]},
            {"volumes": [{"name": "shoal-cache", "persistentVolumeClaim": {"claimName": "c"}}]},
        ),
        (
            {"env": [{"name": "A", "value": "1"}]},
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {}}}]},
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {}}}]},
        ),
        (
            {"volumeMounts": [{"mountPath": "/a", "name": "x"}]},
            {"volumeMounts": [{"mountPath": "/a", "readOnly": True}, {"mountPath": "/b", "name": "y"}]},
            {
                "volumeMounts": [
                    {"mountPath": "/a", "name": "x", "readOnly": True},
                    {"mountPath": "/b", "name": "y"},
                ]
            },
        ),
    ],
)
def test_lists_are_merged_by_name_and_mappings_by_field(rendered: Any, added: Any, merged: Any) -> None:
    assert pod_template.merge(rendered, added) == merged


def container(**fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": [ENGINE | fields]}}


SPEC, FIRST = "spec.podTemplate.spec", "spec.podTemplate.spec.containers[0]"


@pytest.mark.parametrize(
    ("template", "path", "sentence"),
    [
        ({"kind": "Pod"}, "spec.podTemplate.kind", "metadata and spec only"),
        ({"metadata": {"name": "x"}}, "spec.podTemplate.metadata.name", "only labels and annotations"),
        (
            {"metadata": {"labels": {"shoal.dev/rank": "1"}}},
            "spec.podTemplate.metadata.labels[shoal.dev/rank]",
            "Shoal sets it itself",
        ),
        (
            {"metadata": {"labels": {"app.kubernetes.io/managed-by": "me"}}},
            "spec.podTemplate.metadata.labels[app.kubernetes.io/managed-by]",
            "Shoal sets it itself",
        ),
        (
            {"metadata": {"annotations": {"shoal.dev/replica-config": "{}"}}},
            "spec.podTemplate.metadata.annotations[shoal.dev/replica-config]",
            "Shoal sets it itself",
        ),
        ({"spec": {"hostNetwork": True}}, f"{SPEC}.hostNetwork", "their own network"),
        ({"spec": {"serviceAccountName": "admin"}}, f"{SPEC}.serviceAccountName", "own service account"),
        ({"spec": {"terminationGracePeriodSeconds": 1}}, f"{SPEC}.terminationGracePeriodSeconds", "drainSeconds"),
        ({"spec": {"volumes": [{"name": "x", "hostPath": {"path": "/"}}]}}, f"{SPEC}.volumes[0].hostPath", "file://"),
        ({"spec": {"volumes": [{"name": "shoal-secret"}]}}, f"{SPEC}.volumes[0]", "choose another"),
        ({"spec": {"volumes": [{}]}}, f"{SPEC}.volumes[0]", "needs a name"),
        ({"spec": {"volumes": {}}}, f"{SPEC}.volumes", "must be a list"),
        ({"spec": None}, "spec.podTemplate.spec", "must be a mapping"),
        ({"spec": {"containers": ["engine"]}}, FIRST, "must be a mapping"),
        ({"spec": {"containers": [ENGINE, ENGINE]}}, f"{SPEC}.containers[1]", "stands twice"),
        ({"spec": {"initContainers": [ENGINE]}}, f"{SPEC}.initContainers[0]", "is taken"),
        (container(image="x"), f"{FIRST}.image", "use spec.engine.image"),
        (container(command=["sh"]), f"{FIRST}.command", "Shoal sets it itself"),
        (container(envFrom=[]), f"{FIRST}.envFrom", "spec.engine.env"),
        (container(env=[{"name": "RAY_ADDRESS", "value": "x"}]), f"{FIRST}.env[0]", "Shoal sets RAY_ADDRESS"),
        (container(env=[{"name": "POD_UID", "value": "x"}]), f"{FIRST}.env[0]", "Shoal sets POD_UID"),
        (
            container(volumeMounts=[{"name": "x", "mountPath": "/etc/shoal/secret/"}]),
            f"{FIRST}.volumeMounts[0]",
            "choose another",
        ),
        (container(volumeMounts=[{"name": "x", "mountPath": "/etc"}]), f"{FIRST}.volumeMounts[0]", "choose another"),
        (
            container(securityContext={"privileged": True}),
            f"{FIRST}.securityContext.privileged",
            "the node's rights",
        ),
        (
            {"spec": {"containers": [{"name": "side", "securityContext": {"privileged": True}}]}},
            f"{FIRST}.securityContext.privileged",
            "the node's rights",
        ),
    ],
)
def test_what_would_break_a_pod_or_its_bounds_is_refused_with_its_path(
    template: dict[str, Any], path: str, sentence: str
) -> None:
    (fault,) = pod_template.faults(a_model(podTemplate=template))

    assert fault.path == path
    assert sentence in fault.sentence


def test_what_is_left_to_the_model_owner_is_let_through() -> None:
    template = {
        "metadata": {"labels": {"kueue.x-k8s.io/queue-name": "team"}, "annotations": {"a": "b"}},
        "spec": {
            "volumes": [{"name": "shoal-cache", "emptyDir": {"sizeLimit": "1Gi"}}, {"name": "l", "emptyDir": {}}],
            "containers": [
                {
                    "name": "engine",
                    "env": [{"name": "NCCL_DEBUG", "value": "INFO"}],
                    "volumeMounts": [{"name": "l", "mountPath": "/lora"}],
                    "resources": {"limits": {"rdma/ib": "1"}},
                    "securityContext": {"capabilities": {"add": ["IPC_LOCK"]}},
                },
                {"name": "side", "image": "x", "envFrom": [], "ports": []},
            ],
            "initContainers": [{"name": "fetch", "image": "x"}],
            "imagePullSecrets": [{"name": "mine"}],
            "dnsPolicy": "Default",
        },
    }

    assert pod_template.faults(a_model(podTemplate=template)) == []
