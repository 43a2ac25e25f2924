"""Every way in which a first start can fail ends in one sentence that says what to do, and a non-zero exit."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from held_ports import a_port

MODELS = Path(os.environ["SHOAL_TEST_MODELS"])


def up(folder: Path, manifest: dict[str, Any] | str, *words: str, **environment: str) -> tuple[int, str]:
    file = folder / "model.yaml"
    file.write_text(manifest if isinstance(manifest, str) else yaml.safe_dump(manifest))
    told = subprocess.run(
        [sys.executable, "-m", "shoal_operator", "up", "-f", str(file), "--listen", "127.0.0.1:0", *words],
        env=os.environ | {"SHOAL_HOME": str(folder / "home"), "XDG_RUNTIME_DIR": str(folder / "run")} | environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    return told.returncode, told.stderr


def manifest(source: str, **spec: Any) -> dict[str, Any]:
    whole = {"model": {"source": source}, "resources": {"gpu": 0}, "replicas": 1} | spec
    return {"apiVersion": "shoal.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "m"}, "spec": whole}


NIGHTLY = pytest.mark.nightly
LLAMA = f"file://{MODELS / 'tiny-llama'}"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("kind: [", ["YAML"]),
        (manifest("file:///nowhere/llama"), ["/nowhere/llama", "spec.model.source"]),
        (manifest(LLAMA, resorces={}), ["spec.resorces", "spelling"]),
        (manifest(LLAMA, resources={"gpu": 1}), ["spec.resources.gpu", "GPU"]),
        (manifest(LLAMA, engine={"args": ["--no-such-flag"]}), ["--no-such-flag"]),
        pytest.param(
            manifest(LLAMA, engine={"args": ["--max-model-len", "many"]}), ["--max-model-len", "many"], marks=NIGHTLY
        ),
        pytest.param(manifest(LLAMA, engine={"args": ["--max-model-len", "999999"]}), ["max", "2048"], marks=NIGHTLY),
        (
            manifest(LLAMA, engine={"env": [{"name": "VLLM_CPU_KVCACHE_SPACE", "value": "100000"}]}),
            ["GiB of memory", "are available", "VLLM_CPU_KVCACHE_SPACE"],
        ),
        (manifest(f"file://{MODELS / 'head-dim-16'}"), ["first request"]),
    ],
    ids=["yaml", "path", "typo", "gpu", "flag", "value", "too-long", "memory", "dies-at-first-request"],
)
def test_a_start_that_cannot_succeed_says_why(tmp_path: Path, given: dict[str, Any] | str, words: list[str]) -> None:
    code, told = up(tmp_path, given, *(["--listen", f"127.0.0.1:{a_port()}"]))

    assert code != 0
    assert all(word in told for word in words), told
    assert len(told.strip().splitlines()) == 1, told


def test_without_the_engine_the_command_to_install_it_is_told(tmp_path: Path) -> None:
    code, told = up(tmp_path, manifest(LLAMA), "--listen", f"127.0.0.1:{a_port()}", SHOAL_ENGINE_PYTHON="")

    assert code != 0
    assert "shoal engine install" in told


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, told = up(tmp_path, manifest(LLAMA), "--listen", f"127.0.0.1:{port}")

    assert code != 0
    assert f"127.0.0.1:{port}" in told
