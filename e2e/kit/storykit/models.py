"""ModelDeployments for stories, and what the cluster says of them."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from localkube import waiting
from localkube.access import Access
from localkube.commands import Refused
from storykit.installation import merged

MODELS = "modeldeployments.shoal.dev"
OF_SHOAL = "app.kubernetes.io/managed-by=shoal"
BELONGINGS = "pods,services,endpointslices,secrets,serviceaccounts,controllerrevisions"
READY_SECONDS = 240.0
_POLL_SECONDS = 0.4
"""A look is a kubectl, a fifth of a core's second: three stories that look all the time would have no core left."""


def a_model(name: str, *args: str, **spec: Any) -> dict[str, Any]:
    """A manifest for one simulated engine; `args` are the simulator's, `spec` is laid over."""
    usual: Mapping[str, Any] = {
        "model": {"source": "hf://shoal/simulated"},
        "engine": {"args": list(args)},
        "resources": {"gpu": 0, "cpu": "20m", "memory": "128Mi", "sharedMemory": "16Mi"},
        "rollout": {"drainSeconds": 60},
        "replicas": 1,
    }
    return {
        "apiVersion": "shoal.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name},
        "spec": merged(usual, spec),
    }


def a_followed_model(name: str, *args: str, **scaling: Any) -> dict[str, Any]:
    """A manifest whose number of replicas follows the load."""
    manifest = a_model(name, *args, scaling=scaling)
    del manifest["spec"]["replicas"]
    return manifest


def a_ray_model(image: str, name: str, *args: str, **spec: Any) -> dict[str, Any]:
    """A manifest for replicas that run Ray, with a simulated engine in it. A GPU each, so that no core is rationed."""
    resources = {"gpu": 1, "cpu": "100m", "memory": "2Gi", "sharedMemory": "256Mi"}
    return a_model(name, *args, **merged({"engine": {"image": image}, "resources": resources}, spec))


@dataclass(frozen=True, slots=True)
class Models:
    """The models of one namespace."""

    cluster: Access
    namespace: str

    def apply(self, manifest: Mapping[str, Any]) -> None:
        """`kubectl apply`."""
        self.cluster.kubectl("apply", "-n", self.namespace, "-f", "-", stdin=json.dumps(manifest))

    def delete(self, name: str, seconds: int = 240) -> None:
        """`kubectl delete`, and wait until its pods are gone, too."""
        self.cluster.kubectl(
            "delete", MODELS, name, "-n", self.namespace, f"--timeout={seconds}s", timeout_seconds=seconds + 10
        )
        self.until(lambda: not self.pods(name), f"{name}'s pods are gone", seconds)

    def patch(self, name: str, spec: Mapping[str, Any]) -> None:
        """`kubectl patch` of its spec; None takes a field away."""
        words = ["--type=merge", "-p", json.dumps({"spec": spec})]
        self.cluster.kubectl("patch", MODELS, name, "-n", self.namespace, *words)

    def scale(self, name: str, replicas: int) -> None:
        """`kubectl scale`."""
        self.cluster.kubectl("scale", MODELS, name, "-n", self.namespace, f"--replicas={replicas}")

    def status(self, name: str) -> dict[str, Any]:
        """Its status; empty before the first."""
        found: dict[str, Any] = self.cluster.get(MODELS, name, "-n", self.namespace).get("status", {})
        return found

    def condition(self, name: str, kind: str) -> dict[str, Any]:
        """One condition; empty where it is not there yet."""
        return _condition(self.status(name), kind)

    def pods(self, name: str) -> list[Any]:
        """Its pods."""
        found: list[Any] = self.cluster.get("pods", "-n", self.namespace, "-l", f"shoal.dev/model={name}")["items"]
        return found

    def belongings(self, name: str, kinds: str = BELONGINGS) -> list[str]:
        """Everything that was made for it, as kind/name."""
        selector = f"shoal.dev/model={name}"
        return sorted(self.cluster.kubectl("get", kinds, "-n", self.namespace, "-l", selector, "-o", "name").split())

    def starts(self, name: str) -> dict[str, int]:
        """By pod UID, how often its containers were started again."""
        return {
            pod["metadata"]["uid"]: sum(each["restartCount"] for each in pod["status"].get("containerStatuses", []))
            for pod in self.pods(name)
        }

    def events(self, name: str) -> list[tuple[str, str]]:
        """Reason and message of every Event about the model itself."""
        selector = f"involvedObject.kind=ModelDeployment,involvedObject.name={name}"
        items = self.cluster.get("events", "-n", self.namespace, "--field-selector", selector)["items"]
        return [(item["reason"], item["message"]) for item in items]

    def wait_ready(self, name: str, replicas: int = 1, seconds: float = READY_SECONDS) -> float:
        """Seconds until so many replicas are ready, and no other ones are left."""

        def is_so() -> bool:
            status = self.status(name)
            is_served = _condition(status, "Ready").get("status") == "True"
            return is_served and status.get("readyReplicas", 0) == replicas == status.get("replicas", 0)

        return self.until(is_so, f"{name} has {replicas} ready replicas", seconds, name)

    def wait_reason(self, name: str, kind: str, reason: str, seconds: float = READY_SECONDS) -> str:
        """The message of the condition, as soon as its reason is this one."""
        found: dict[str, Any] = {}

        def is_so() -> bool:
            nonlocal found
            found = self.condition(name, kind)
            return found.get("reason") == reason

        self.until(is_so, f"{kind} of {name}: {reason}", seconds, name)
        return str(found["message"])

    def wait_wanted(self, name: str, replicas: int, seconds: float = READY_SECONDS) -> float:
        """Seconds until so many are wanted."""
        return self.until(
            lambda: self.status(name).get("desiredReplicas") == replicas, f"{replicas} of {name} wanted", seconds, name
        )

    def until(self, is_so: Any, what: str, seconds: float, name: str = "") -> float:
        """Seconds until it was so; what is known of the model stands in the failure."""
        try:
            return waiting.until(is_so, what=what, seconds=seconds, poll_seconds=_POLL_SECONDS)
        except Refused as refused:
            known = json.dumps(self.status(name).get("conditions", []), indent=1) if name else ""
            raise AssertionError(f"{refused}\n{known}") from refused


def _condition(status: Mapping[str, Any], kind: str) -> dict[str, Any]:
    return next((found for found in status.get("conditions", []) if found["type"] == kind), {})


@contextmanager
def namespace(cluster: Access, name: str) -> Iterator[Models]:
    """A namespace of a story's own; afterwards its models are gone, and it goes. What a killed run left goes first."""
    if cluster.kubectl("get", "namespace", name, "--ignore-not-found", "-o", "name"):
        _remove(cluster, name)
        cluster.kubectl("wait", "--for=delete", f"namespace/{name}", "--timeout=120s", timeout_seconds=130)
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    try:
        yield Models(cluster, name)
    finally:
        _remove(cluster, name)


def _remove(cluster: Access, name: str) -> None:
    """Models and their pods are waited for, since they hold GPUs; how replicas drain, stories ask before this."""
    cluster.kubectl("delete", MODELS, "--all", "-n", name, "--timeout=240s", timeout_seconds=250)
    replicas = ["pods", "-l", OF_SHOAL, "-n", name]  # a story's own pods go with the namespace
    now = ["--ignore-not-found", "--grace-period=1", "--timeout=240s"]
    cluster.kubectl("delete", *replicas, *now, timeout_seconds=250)
    cluster.kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=false")
