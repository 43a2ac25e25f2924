"""What is not built yet, or has no meaning on one machine, is refused or told by name."""

from typing import Any

import pytest

from builders import a_model
from shoal_api.rules import Fault
from shoal_operator import one_machine, unbuilt
from shoal_operator.unbuilt import Unbuilt

_HF = "hf://Qwen/Qwen2.5-7B-Instruct"


def test_a_field_without_behaviour_is_refused_by_name() -> None:
    table = (Unbuilt("spec.queue", lambda md: "queue" in md.spec.model_fields_set, "queues are not built"),)

    assert unbuilt.faults(a_model(queue={"maxWaiting": 3}), table) == [Fault("spec.queue", "queues are not built")]
    assert unbuilt.faults(a_model(), table) == []


@pytest.mark.parametrize("spec", [{}, {"replicas": 2}, {"replicas": 2, "scaling": {"maxReplicas": 4}}])
def test_replicas_and_scaling_are_built(spec: dict[str, Any]) -> None:
    assert unbuilt.faults(a_model(**spec)) == []


@pytest.mark.parametrize(
    ("path", "spec"),
    [
        ("spec.model.source", {"model": {"source": "pvc://claim/llama"}}),
        ("spec.model.source", {"model": {"source": "s3://bucket/llama"}}),
        ("spec.model.source", {"model": {"source": "oci://registry/llama"}}),
        ("spec.engine.image", {"engine": {"image": "registry/engine:2"}}),
        (
            "spec.engine.env",
            {"engine": {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}},
        ),
        ("spec.parallelism", {"parallelism": {"tensor": 4}, "resources": {"gpu": 2}}),
    ],
)
def test_what_one_machine_cannot_do_is_refused_by_name(path: str, spec: dict[str, Any]) -> None:
    assert [fault.path for fault in one_machine.refusals(a_model(**spec))] == [path]


@pytest.mark.parametrize(
    ("path", "spec"),
    [
        ("spec.scheduling", {"scheduling": {"nodeSelector": {"a": "b"}}}),
        ("spec.podTemplate", {"podTemplate": {"metadata": {}}}),
        ("spec.model.credentials", {"model": {"source": _HF, "credentials": {"secretName": "token"}}}),
        ("spec.resources.cpu", {"resources": {"cpu": "8"}}),
        ("spec.resources.memory", {"resources": {"memory": "8Gi"}}),
        ("spec.resources.sharedMemory", {"resources": {"sharedMemory": "1Gi"}}),
        ("spec.resources.gpuResource", {"resources": {"gpuResource": "amd.com/gpu"}}),
    ],
)
def test_what_has_no_effect_on_one_machine_is_told_and_served(path: str, spec: dict[str, Any]) -> None:
    md = a_model(**spec)

    assert [fault.path for fault in one_machine.notices(md)] == [path]
    assert one_machine.refusals(md) == []


def test_a_plain_manifest_is_served_without_a_word() -> None:
    md = a_model(resources={"gpu": 0}, replicas=1)

    assert (one_machine.refusals(md), one_machine.notices(md)) == ([], [])
