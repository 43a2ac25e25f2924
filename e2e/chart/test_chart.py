"""The chart's whole life on a real cluster: install, upgrade, roll back, uninstall, and install again.

A release of its own, for one namespace. Where another installation watches all namespaces, its operator is paused
meanwhile: two operators must not make the pods of one model.
"""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from localkube import layout, waiting
from localkube.access import Access
from localkube.commands import Refused
from storykit import installation, models
from storykit.models import MODELS, Models

pytestmark = [pytest.mark.cluster, pytest.mark.nightly, pytest.mark.alone]

RELEASE = "tale"
NAMESPACE = "story-chart"
CRD = "modeldeployments.shoal.dev"
SECRETS = ("master-key", "api-keys", "first-key")
LEFT = ["lease.coordination.k8s.io/tale-shoal-operator", "pod/tale-shoal-test"]
"""What an uninstall leaves beside the Secrets: what a program and `helm test` made; both work for nobody."""
VALUES: dict[str, Any] = {
    "namespaces": [NAMESPACE],
    "gateway": {"replicas": 1, "drainSeconds": 5, "settleSeconds": 1},
    "test": {"model": "sim"},
}


@pytest.fixture
def own(cluster: Access) -> Iterator[Models]:
    """A namespace with the restricted standard, while nobody else's operator works."""
    if cluster.is_local:
        installation.load_images(layout.from_environment(), ["control", "simulator"])
    with installation.paused(cluster), crd_given_back(cluster), models.namespace(cluster, NAMESPACE) as found:
        label = "pod-security.kubernetes.io/enforce=restricted"
        cluster.kubectl("label", "namespace", NAMESPACE, label)
        yield found


@contextmanager
def crd_given_back(cluster: Access) -> Iterator[None]:
    """The CRD belongs to the release that had it, or is gone where there was none."""

    def belongs_to() -> dict[str, str] | None:
        try:
            metadata = cluster.get("crd", CRD)["metadata"]
        except Refused:
            return None
        marks = {**metadata.get("annotations", {}), **metadata.get("labels", {})}
        return {name: marks[name] for name in OWNERSHIP if name in marks}

    before = belongs_to()
    yield
    if before is None:
        cluster.kubectl("delete", "crd", CRD)
        return
    for name in OWNERSHIP:
        verb = "label" if name == OWNERSHIP[-1] else "annotate"
        cluster.kubectl(verb, "crd", CRD, "--overwrite", f"{name}={before[name]}" if name in before else f"{name}-")


OWNERSHIP = ("meta.helm.sh/release-name", "meta.helm.sh/release-namespace", "app.kubernetes.io/managed-by")


def component(cluster: Access, namespace: str, name: str) -> list[Any]:
    selector = f"app.kubernetes.io/component={name}"
    found: list[Any] = cluster.get("pods", "-n", namespace, "-l", selector)["items"]
    return found


def helm(cluster: Access, *words: str) -> str:
    return cluster.run(["helm", *words, "--namespace", NAMESPACE], timeout_seconds=240)


def lay_out(cluster: Access, folder: Path, verb: str, changes: dict[str, Any]) -> None:
    """`helm install` or `helm upgrade`, until everything is ready."""
    file = folder / "values.json"
    below = installation.merged(installation.VALUES, VALUES)
    file.write_text(json.dumps(installation.merged(below, changes)))
    words = [verb, RELEASE, str(installation.CHART), "--values", str(file), "--take-ownership"]
    helm(cluster, *words, "--wait", "--timeout", "180s")


def secrets(cluster: Access) -> dict[str, dict[str, str]]:
    return {name: cluster.get("secret", f"{RELEASE}-shoal-{name}", "-n", NAMESPACE)["data"] for name in SECRETS}


def add_key(cluster: Access, name: str) -> None:
    """As a person adds one: the list grows by an entry."""
    secret = f"{RELEASE}-shoal-api-keys"
    data = cluster.get("secret", secret, "-n", NAMESPACE)["data"]["keys.yaml"]
    entries = [*yaml.safe_load(base64.b64decode(data)), {"name": name, "sha256": "ab" * 32, "models": ["*"]}]
    patch = json.dumps({"stringData": {"keys.yaml": yaml.safe_dump(entries)}})
    cluster.kubectl("patch", "secret", secret, "-n", NAMESPACE, "--patch", patch)


def gateways(cluster: Access) -> list[str]:
    """The names of the gateway's pods that are ready and not leaving."""
    return [
        pod["metadata"]["name"]
        for pod in component(cluster, NAMESPACE, "gateway")
        if "deletionTimestamp" not in pod["metadata"]
        and {"type": "Ready", "status": "True"}.items()
        <= next((c for c in pod["status"].get("conditions", []) if c["type"] == "Ready"), {}).items()
    ]


def left(cluster: Access) -> list[str]:
    """What has the release's name, its Secrets apart."""
    kinds = "all,serviceaccount,role,rolebinding,networkpolicy,pdb,lease,configmap"
    names = cluster.kubectl("get", kinds, "-n", NAMESPACE, "-o", "name").split()
    return sorted(name for name in names if name.rpartition("/")[2].startswith(RELEASE))


def replica(own: Models) -> tuple[str, int]:
    """Which pod serves, and how often it was started: the same as long as nothing touched it."""
    (pod,) = own.pods("sim")
    return pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]


def test_install_upgrade_rollback_uninstall_and_again(cluster: Access, own: Models, tmp_path: Path) -> None:
    lay_out(cluster, tmp_path, "install", {})
    own.apply(models.a_model("sim"))
    own.wait_ready("sim")
    made, served_by = secrets(cluster), replica(own)
    assert "sim says" in helm(cluster, "test", RELEASE, "--logs"), "a pod asked by DNS, with the first key"

    add_key(cluster, "alice")
    edited = secrets(cluster)
    lay_out(cluster, tmp_path, "upgrade", {"gateway": {"replicas": 2, "accessLog": False}})
    assert len(gateways(cluster)) == 2
    assert secrets(cluster) == edited
    assert "sim says" in helm(cluster, "test", RELEASE, "--logs")

    helm(cluster, "rollback", RELEASE, "1", "--wait", "--timeout", "180s")
    waiting.until(lambda: len(gateways(cluster)) == 1, what="one gateway as before", seconds=60)
    assert secrets(cluster) == edited, "a rollback takes no key away"
    assert edited["master-key"] == made["master-key"]

    helm(cluster, "uninstall", RELEASE, "--wait", "--timeout", "180s")
    waiting.until(lambda: left(cluster) == LEFT, what=f"nothing but {LEFT}", seconds=90)
    assert cluster.get("crd", CRD)["metadata"]["name"] == CRD
    assert secrets(cluster) == edited
    assert replica(own) == served_by, "the model's pod runs on; nobody sends it anything"

    lay_out(cluster, tmp_path, "install", {})
    assert "sim says" in helm(cluster, "test", RELEASE, "--logs"), "the new gateways know the old replica"
    assert replica(own) == served_by

    helm(cluster, "uninstall", RELEASE, "--wait", "--timeout", "180s")
    cluster.kubectl("delete", MODELS, "sim", "-n", NAMESPACE, "--timeout=20s")
    own.until(lambda: not own.pods("sim"), "the pod of a model that is deleted without an operator is gone", 60)
