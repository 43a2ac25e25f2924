"""What makes a revision, and what does not."""

from typing import Any

import pytest

from builders import a_model
from shoal_operator import rendering

_HF = "hf://Qwen/Qwen2.5-7B-Instruct"


@pytest.mark.parametrize(
    "spec",
    [
        {"model": {"source": "hf://Qwen/other"}},
        {"model": {"source": _HF, "names": ["another-canonical"]}},
        {"model": {"source": _HF, "credentials": {"secretName": "token"}}},
        {"engine": {"args": ["--enforce-eager"]}},
        {"engine": {"env": [{"name": "A", "value": "b"}]}},
        {"engine": {"image": "registry/engine:2"}},
        {"parallelism": {"tensor": 2}},
        {"resources": {"gpu": 0}},
        {"scheduling": {"nodeSelector": {"gpu": "h200"}}},
        {"podTemplate": {"metadata": {"labels": {"a": "b"}}}},
        {"rollout": {"drainSeconds": 30}},
    ],
)
def test_what_a_running_replica_cannot_take_over_makes_a_revision(spec: dict[str, Any]) -> None:
    assert rendering.revision(a_model(**spec)) != rendering.revision(a_model())


@pytest.mark.parametrize(
    "spec",
    [
        {"model": {"source": _HF, "names": ["qwen", "an-alias"]}},
        {"replicas": 3},
        {"scaling": {"maxReplicas": 9}},
        {"queue": {"maxWaiting": 1}},
        {"timeouts": {"idleSeconds": 1}},
        {"routing": {"continuation": "Off"}},
        {"rollout": {"strategy": "Surge", "startDeadlineSeconds": 60}},
        {"engine": {"kind": "vllm", "args": []}},  # said, but no other than the default
        {"rollout": {"drainSeconds": 600}},
    ],
)
def test_what_gateways_and_operator_alone_obey_makes_none(spec: dict[str, Any]) -> None:
    assert rendering.revision(a_model(**spec)) == rendering.revision(a_model())


def test_a_revision_stays_what_it_was() -> None:
    """An upgrade of Shoal must not replace every replica; a change of this value does."""
    md = a_model(engine={"args": ["--max-model-len", "8192"]}, resources={"gpu": 2}, parallelism={"tensor": 2})

    assert rendering.revision(md) == "5a8d0d293a"
