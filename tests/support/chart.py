"""The chart as Helm renders it, for tests; skipped with a reason where there is no Helm."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from localkube import binaries, layout

CHART = Path(__file__).resolve().parents[2] / "charts" / "shoal"
NAMESPACE = "shoal-system"
KUBERNETES = "1.34.0"
NEEDED = "SHOAL_NEEDS_HELM"

Manifest = dict[str, Any]


def helm() -> str:
    """The program: the one that the test cluster's tools build, else the one on the path."""
    ours = binaries.places(layout.from_environment().cache).path("helm")
    found = str(ours) if ours.is_file() else shutil.which("helm")
    if found is None:
        reason = "there is no helm: run `python e2e/cluster/cluster.py build`, or put one on the path"
        if os.environ.get(NEEDED):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def template(values: Mapping[str, Any], release: str = "shoal") -> subprocess.CompletedProcess[str]:
    """What `helm template` answers to these values."""
    return _helm(["template", release, str(CHART)], values)


def lint(values: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
    """What `helm lint` says about the chart with these values."""
    return _helm(["lint", "--strict", str(CHART)], values)


def _helm(words: list[str], values: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
    words = [helm(), *words, "--namespace", NAMESPACE, "--kube-version", KUBERNETES, "--values", "-"]
    return subprocess.run(words, input=json.dumps(dict(values)), capture_output=True, text=True)


def render(values: Mapping[str, Any], release: str = "shoal") -> list[Manifest]:
    """The objects that these values make."""
    done = template(values, release)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def one(objects: Iterable[Manifest], kind: str, name: str) -> Manifest:
    """The one object of this kind and name."""
    (found,) = (item for item in objects if item["kind"] == kind and item["metadata"]["name"] == name)
    return found


def names(objects: Iterable[Manifest], kind: str) -> set[str]:
    """What the objects of this kind are called."""
    return {item["metadata"]["name"] for item in objects if item["kind"] == kind}


def arguments(objects: Iterable[Manifest], name: str) -> list[str]:
    """What a Deployment's program is told."""
    (container,) = one(objects, "Deployment", name)["spec"]["template"]["spec"]["containers"]
    return list(container["args"])
