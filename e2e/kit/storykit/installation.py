"""The chart as the stories install it: from this checkout, with the images of this checkout."""

import base64
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localkube import images, our_images, waiting
from localkube.access import Access
from localkube.layout import Layout

CHART = our_images.ROOT / "charts" / "shoal"
RELEASE = "shoal"
NAMESPACE = "shoal-system"
TAG = "dev"
INSTALL_SECONDS = 180
GIVEN = "SHOAL_E2E_INSTALLATION"
"""The address and the key of an installation that somebody else made and takes away."""

VALUES: Mapping[str, Any] = {
    "images": {
        "registry": "localhost",
        "control": {"tag": TAG},
        "engine": {"repository": "shoal-simulator", "tag": TAG},
    },
    "operator": {"replicas": 1, "resources": {"requests": {"cpu": "20m", "memory": "96Mi"}}},
    "gateway": {
        "replicas": 2,
        "drainSeconds": 60,
        # Longer than on two busy cores a Service may take to forget a pod, and than the stories' client keeps a quiet
        # connection (5 s): one that the gateway then closes is not just being asked on.
        "settleSeconds": 8,
        "resources": {"requests": {"cpu": "20m", "memory": "96Mi"}},
    },
}
"""What the test cluster needs: small requests, and models whose manifest names no image run the simulator."""


@dataclass(frozen=True, slots=True)
class Installation:
    """One installed release."""

    cluster: Access
    url: str
    """The gateways' Service, up to /v1."""
    key: str
    """The first API key, for every model."""

    def pods(self, component: str, leaving: bool = False) -> list[Any]:
        """The pods of `operator` or `gateway`; without those that are leaving, unless they are asked for."""
        selector = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component={component}"
        items = self.cluster.get("pods", "-n", NAMESPACE, "-l", selector)["items"]
        return [pod for pod in items if leaving or not pod["metadata"].get("deletionTimestamp")]

    def wait_for(self, workload: str, seconds: int = INSTALL_SECONDS) -> None:
        """Until a Deployment of ours is rolled out, such as `deployment/shoal-gateway`."""
        words = ["rollout", "status", workload, "-n", NAMESPACE, f"--timeout={seconds}s"]
        self.cluster.kubectl(*words, timeout_seconds=seconds + 10)

    def to_environment(self) -> dict[str, str]:
        """What `from_environment` makes the same installation of, in another process."""
        return {GIVEN: json.dumps({"url": self.url, "key": self.key})}


def from_environment(cluster: Access) -> Installation | None:
    """The installation that is there already, where one is named."""
    given = os.environ.get(GIVEN)
    return Installation(cluster, **json.loads(given)) if given else None


def load_images(place: Layout, names: Sequence[str], nodes: Sequence[int] = (1,)) -> None:
    """Build our images where their inputs changed, and put them into these nodes of the local cluster."""
    for name in names:
        archive = our_images.archive(place, name)
        for index in nodes:
            images.load(place.node(index), archive)


def install(cluster: Access, folder: Path, changes: Mapping[str, Any] | None = None) -> Installation:
    """`helm upgrade --install`, and wait until everything is ready; `changes` are laid over VALUES.

    What a run that was killed left of a release is taken over, or taken away where helm was in the middle of it.
    """
    _tidy(cluster)
    file = folder / "values.json"
    file.write_text(json.dumps(merged(VALUES, changes or {})))
    words = ["--namespace", NAMESPACE, "--create-namespace", "--values", str(file), "--take-ownership", "--wait"]
    cluster.run(
        ["helm", "upgrade", "--install", RELEASE, str(CHART), *words, "--timeout", f"{INSTALL_SECONDS}s"],
        timeout_seconds=INSTALL_SECONDS + 30,
    )
    service = cluster.get("service", f"{RELEASE}-gateway", "-n", NAMESPACE)
    secret = cluster.get("secret", f"{RELEASE}-first-key", "-n", NAMESPACE)
    return Installation(
        cluster,
        url=f"http://{service['spec']['clusterIP']}:{service['spec']['ports'][0]['port']}/v1",
        key=base64.b64decode(secret["data"]["key"]).decode().strip(),
    )


def uninstall(cluster: Access) -> None:
    """Take the release away, where there is one, with its namespace; the CRD and the models stay."""
    words = ["--namespace", NAMESPACE, "--ignore-not-found", "--wait"]
    cluster.run(["helm", "uninstall", RELEASE, *words], timeout_seconds=INSTALL_SECONDS)
    cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s", timeout_seconds=130)


@contextmanager
def paused(cluster: Access) -> Iterator[None]:
    """The shared installation's operator, if there is one, does nothing for a while; its models are served on."""
    name, where = f"{RELEASE}-operator", ["-n", NAMESPACE]
    before = cluster.kubectl(
        "get", "deployment", name, *where, "--ignore-not-found", "-o", "jsonpath={.spec.replicas}"
    ).strip()
    pods = ["pods", *where, "-l", f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component=operator"]
    if before:
        cluster.kubectl("scale", "deployment", name, *where, "--replicas=0")
        waiting.until(lambda: not cluster.get(*pods)["items"], what="paused operator", seconds=60)
    try:
        yield
    finally:
        if before:
            cluster.kubectl("scale", "deployment", name, *where, f"--replicas={before}")


def _tidy(cluster: Access) -> None:
    """Nothing is on its way: neither a namespace that is going nor a release that helm was kept from finishing."""
    phase = ["get", "namespace", NAMESPACE, "--ignore-not-found", "-o", "jsonpath={.status.phase}"]
    if cluster.kubectl(*phase) == "Terminating":
        cluster.kubectl("wait", "--for=delete", f"namespace/{NAMESPACE}", "--timeout=120s", timeout_seconds=130)
    unfinished = ["--namespace", NAMESPACE, "--pending", "--uninstalling", "--filter", f"^{RELEASE}$", "--short"]
    if cluster.run(["helm", "list", *unfinished]).strip():
        uninstall(cluster)


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings merged into each other, everything else replaced."""
    whole = dict(below)
    for key, value in above.items():
        known = whole.get(key)
        whole[key] = merged(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return whole
