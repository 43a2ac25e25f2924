"""The programs that the chart starts: they take its arguments, end when told to, and leave an absent node."""

import argparse
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chart import NAMESPACE, Manifest, arguments, names, one, render
from chart_values import BARE, EVERYTHING, SETS
from localkube import waiting
from shoal_operator import operator_settings
from shoal_serving.gateway import settings as gateway_settings


@SETS
def test_the_gateway_takes_the_arguments_that_the_chart_gives(values: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "master").mkdir()
    (tmp_path / "master/master-key").write_text("ab" * 32)
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/keys.yaml").write_text("[]")
    words = [word.replace("/etc/shoal", str(tmp_path)) for word in arguments(render(values), "shoal-gateway")]

    settings = gateway_settings.read(words, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"})

    assert settings.max_held_bytes == values.get("gateway", {}).get("maxHeldBytes", 536870912)
    assert (settings.keys_file is None) == (values is BARE)


@SETS
def test_the_operator_takes_the_arguments_that_the_chart_gives(values: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "master").mkdir()
    (tmp_path / "master/master-key").write_text("ab" * 32)
    words = [word.replace("/etc/shoal", str(tmp_path)) for word in arguments(render(values), "shoal-operator")]
    parser = argparse.ArgumentParser()
    operator_settings.add_flags(parser)

    settings = operator_settings.read(parser.parse_args(words), {"POD_NAME": "a-pod"}, 1)

    assert settings.gateway_service == (NAMESPACE, "shoal-gateway-internal")
    assert settings.namespaces == tuple(values.get("namespaces", ()))
    assert settings.installation.file_roots == tuple(values.get("models", {}).get("fileRoots", ()))
    assert settings.installation.offline == (values is EVERYTHING)
    assert bool(settings.installation.surge_priority_class) == (values is not BARE)


def test_the_engine_image_is_pulled_beforehand_only_where_that_is_asked_for() -> None:
    assert names(render({}), "DaemonSet") == set()

    spec = one(render(EVERYTHING), "DaemonSet", "shoal-engine-image")["spec"]["template"]["spec"]
    engine = f"registry.example.com/shoal/shoal-engine@sha256:{'0' * 64}"
    assert [container["image"] for container in spec["containers"]] == [engine, "registry.example.com/other:1"]
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["nodeSelector"] == {"pool": "gpu"}
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


def test_what_holds_an_image_ends_when_it_is_told_to() -> None:
    (container,) = one(render({"images": {"prePull": {"enabled": True}}}), "DaemonSet", "shoal-engine-image")["spec"][
        "template"
    ]["spec"]["containers"]
    _, *words = container["command"]
    holding = subprocess.Popen([sys.executable, *words])
    try:
        waiting.until(lambda: catches(holding.pid, signal.SIGTERM), what="it listens", seconds=120)
        holding.terminate()
        assert holding.wait(120) == 0
    finally:
        holding.kill()
        holding.wait()


def catches(pid: int, number: signal.Signals) -> bool:
    caught = re.search(r"^SigCgt:\s+(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)


@pytest.mark.parametrize(
    ("chosen", "ours"),
    [
        ([], ["not-ready", "unreachable"]),
        ([{"key": "spot", "operator": "Exists"}], ["not-ready", "unreachable"]),
        ([{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "tolerationSeconds": 300}], ["not-ready"]),
        ([{"operator": "Exists"}], []),
    ],
)
@pytest.mark.parametrize("program", ["operator", "gateway"])
def test_a_program_leaves_an_absent_node_soon_unless_the_values_say_otherwise(
    program: str, chosen: list[Manifest], ours: list[str]
) -> None:
    deployment = one(render({program: {"tolerations": chosen}}), "Deployment", f"shoal-{program}")
    tolerations = deployment["spec"]["template"]["spec"]["tolerations"]

    assert [each for each in tolerations if each in chosen] == chosen
    added = [each for each in tolerations if each not in chosen]
    assert [each["key"] for each in added] == [f"node.kubernetes.io/{name}" for name in ours]
    assert {each["tolerationSeconds"] for each in added} <= {30}


def test_a_pod_has_the_time_that_its_drain_takes() -> None:
    for seconds, grace in ((0, 37), (90, 90)):
        values = {"gateway": {"drainSeconds": 5, "settleSeconds": 2, "terminationGracePeriodSeconds": seconds}}
        deployment = one(render(values), "Deployment", "shoal-gateway")
        assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == grace
