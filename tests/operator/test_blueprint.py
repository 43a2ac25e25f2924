"""What a replica process on one machine is started with, and whether there is room for it."""

from pathlib import Path
from typing import Any

import pytest

from builders import a_model
from shoal_operator import blueprint as blueprints
from shoal_operator.blueprint import Blueprint, Place

GIB = 2**30


def a_blueprint(**spec: Any) -> Blueprint:
    return blueprints.of(a_model(**({"resources": {"gpu": 0}} | spec)), "rev")


@pytest.mark.parametrize(
    ("source", "loads", "local"),
    [
        ("file:///models/llama", "/models/llama", Path("/models/llama")),
        ("hf://Qwen/Qwen2.5-7B-Instruct@main", "Qwen/Qwen2.5-7B-Instruct@main", None),
    ],
)
def test_a_source_becomes_what_the_engine_loads(source: str, loads: str, local: Path | None) -> None:
    blueprint = a_blueprint(model={"source": source})

    assert (blueprint.source, blueprint.local_path) == (loads, local)


def test_the_configuration_binds_loopback_and_carries_the_spec(tmp_path: Path) -> None:
    blueprint = a_blueprint(
        model={"source": "file:///m", "names": ["canonical", "alias"]},
        engine={"args": ["--enforce-eager"]},
        rollout={"drainSeconds": 7},
    )
    place = Place("qwen-rev-0", "uid-1", 30001, tmp_path, tmp_path / "key", tmp_path / "token")

    config = blueprints.config(blueprint, place)

    assert (config.model, config.served_name, config.args) == ("default/qwen", "canonical", ["--enforce-eager"])
    assert (config.host, config.port, config.drain_seconds, config.gpus) == ("127.0.0.1", 30001, 7, 0)
    assert config.termination_message.parent == tmp_path


def test_the_environment_is_the_users_less_what_leads_the_engine_astray() -> None:
    inherited = {
        "HF_TOKEN": "secret",
        "PATH": "/bin",
        "PYTHONPATH": "/elsewhere",
        "VIRTUAL_ENV": "/elsewhere",
        "RAY_ADDRESS": "10.0.0.1",
        "VLLM_API_KEY": "k",
        "CUDA_VISIBLE_DEVICES": "0,1,2,3",
    }
    blueprint = a_blueprint(engine={"env": [{"name": "OMP_NUM_THREADS", "value": "1"}]})

    found = blueprints.environment(blueprint, inherited, Path("/links"), ("2",))

    assert found == {
        "HF_TOKEN": "secret",
        "PATH": "/bin",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": "/links",
        "PYTHONUNBUFFERED": "1",
        "CUDA_VISIBLE_DEVICES": "2",
    }


@pytest.mark.parametrize(
    ("spec", "inherited", "gib"),
    [
        ({}, {}, 2 + 12 + 1),
        ({}, {"VLLM_CPU_KVCACHE_SPACE": "4"}, 2 + 12 + 4),
        ({"engine": {"env": [{"name": "VLLM_CPU_KVCACHE_SPACE", "value": "8"}]}}, {"VLLM_CPU_KVCACHE_SPACE": "4"}, 22),
        ({"engine": {"env": [{"name": "VLLM_CPU_KVCACHE_SPACE", "value": "much"}]}}, {}, 15),
        ({"resources": {"gpu": 1}}, {}, 2),
    ],
)
def test_the_need_of_memory_is_weights_cache_and_the_engine_itself(
    spec: dict[str, Any], inherited: dict[str, str], gib: int
) -> None:
    assert blueprints.memory_bytes(a_blueprint(**spec), 10 * GIB, inherited) == gib * GIB


def test_too_little_memory_is_said_in_figures_and_may_pass() -> None:
    words = blueprints.too_little_memory(a_blueprint(), 15 * GIB, 3 * GIB)

    assert words is not None
    assert "needs about 15.0 GiB of memory and 3.0 GiB are available" in words.sentence
    assert not words.permanent
    assert blueprints.too_little_memory(a_blueprint(), 3 * GIB, 3 * GIB) is None


@pytest.mark.parametrize(
    ("asked", "free", "total", "sentence", "permanent"),
    [
        (0, 0, 0, None, False),
        (1, 1, 1, None, False),
        (1, 0, 0, "is 1 and this machine has no GPU: set it to 0 for the CPU engine", True),
        (4, 2, 2, "is 4 and this machine has 2: lower it together with spec.parallelism", True),
        (2, 1, 4, "is 2 and 1 of 4 are free: lower spec.replicas or end another model", False),
    ],
)
def test_too_few_gpus_names_the_field(asked: int, free: int, total: int, sentence: str | None, permanent: bool) -> None:
    blueprint = a_blueprint(resources={"gpu": asked}, parallelism={"tensor": max(1, asked)})

    words = blueprints.too_few_gpus(blueprint, free, total)

    if sentence is None:
        assert words is None
    else:
        assert words is not None
        assert words.sentence == f"default/qwen: spec.resources.gpu {sentence}"
        assert words.permanent is permanent
