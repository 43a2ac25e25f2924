"""Real vLLM in a pod, on the CPU: its image, small models on a claim, and what its start and its memory are made of."""

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from localkube import images, our_images
from localkube.layout import Layout
from storykit import replicas
from storykit.models import Models, a_model

MODELS_VARIABLE = "SHOAL_TEST_MODELS"
CLAIM = "weights"
DIRECTORY = "/var/run/shoal"
START_SECONDS = 300.0
NODE_GPU = "nvidia.com/gpu"
NODE = "node1"
"""The node that has the image; it is this machine, as the claim's folder is."""

# A replica's memory by process, from inside its pod: the share of each in what several have in common is its own.
_MEMORY = """
import json, os, pathlib
found = {}
for process in pathlib.Path("/proc").glob("[0-9]*"):
    if process.name == str(os.getpid()):
        continue
    try:
        words = (process / "cmdline").read_text().replace(chr(0), " ")
        rollup = (process / "smaps_rollup").read_text()
    except OSError:
        continue
    size = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    found[words.strip()[:160]] = found.get(words.strip()[:160], 0) + size
print(json.dumps(found))
"""


def load_image(place: Layout) -> None:
    """Build the engine's image where its inputs changed, and put it into the first node; gigabytes, so not twice."""
    name = our_images.ALL["engine-cpu"].name
    archive = our_images.archive(place, "engine-cpu")
    mark = place.node(1).folder / f"loaded-{archive.stem}"
    if mark.exists() and name in images.ctr(place.node(1), "images", "list", "--quiet"):
        return
    images.load(place.node(1), archive)
    mark.touch()


def a_real_model(name: str, folder: str, *args: str, gpus: int = 0, **spec: Any) -> dict[str, Any]:
    """A manifest for vLLM on the CPU with a model of the claim; the scheduler counts `gpus` as taken by it."""
    held = {NODE_GPU: str(gpus)} if gpus else {}
    # It may use the whole machine while it starts, and asks for little, so that two find room on a small one.
    resources = {
        "requests": {"cpu": "100m", "memory": "1Gi"} | held,
        "limits": {"cpu": str(os.cpu_count()), "memory": "8Gi"} | held,
    }
    usual: dict[str, Any] = {
        "model": {"source": f"pvc://{CLAIM}/{folder}"},
        "engine": {"image": our_images.ALL["engine-cpu"].name, "args": list(args)},
        "resources": {"gpu": 0, "cpu": "1", "memory": "8Gi", "sharedMemory": "1Gi"},
        "scheduling": {"nodeSelector": {"kubernetes.io/hostname": NODE}},
        "podTemplate": {"spec": {"containers": [{"name": "engine", "resources": resources}]}},
    }
    return a_model(name, **{**usual, **spec})


@contextmanager
def weights(story: Models, folder: Path, names: Sequence[str]) -> Iterator[None]:
    """A claim of the story's namespace with these models of SHOAL_TEST_MODELS, readable for everybody."""
    for name in names:
        shutil.copytree(Path(os.environ[MODELS_VARIABLE]) / name, folder / name, copy_function=shutil.copyfile)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    volume, size = f"{story.namespace}-{CLAIM}", {"storage": "1Gi"}
    both = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    claim = {"namespace": story.namespace, "name": CLAIM}
    story.cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume},
            "spec": both
            | {
                "capacity": size,
                "claimRef": claim,
                "hostPath": {"path": str(folder)},
                "persistentVolumeReclaimPolicy": "Retain",
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": claim,
            "spec": both | {"volumeName": volume, "resources": {"requests": size}},
        },
    )
    try:
        yield
    finally:
        story.cluster.kubectl("delete", "pvc", CLAIM, "-n", story.namespace, "--wait=false")
        story.cluster.kubectl("delete", "pv", volume, "--wait=false")


@dataclass(frozen=True, slots=True)
class Pieces:
    """One replica's way to its first token: what ended when, as Unix times, in their order."""

    moments: Mapping[str, float]

    def told(self) -> str:
        """A line for each: seconds since the beginning, and what it took itself."""
        began = before = next(iter(self.moments.values()))
        lines = []
        for name, at in self.moments.items():
            lines.append(f"{at - began:6.1f} s  (+{at - before:.1f})  {name}")
            before = at
        return "\n".join(lines)


def pieces(story: Models, name: str, applied: float, sent: float, first: float) -> Pieces:
    """From `kubectl apply` to the first token; what Kubernetes tells is in whole seconds."""
    (pod,) = story.pods(name)
    status = pod["status"]
    conditions = {found["type"]: _unix(found["lastTransitionTime"]) for found in status["conditions"]}
    (engine,) = status["containerStatuses"]
    said = story.cluster.kubectl(
        "exec", pod["metadata"]["name"], "-n", story.namespace, "--", "cat", f"{DIRECTORY}/report.jsonl"
    )
    stages = {report["stage"]: report["at"] for report in map(json.loads, said.splitlines())}
    moments = {
        "kubectl apply": applied,
        "pod made": _unix(pod["metadata"]["creationTimestamp"]),
        "scheduled": conditions["PodScheduled"],
        "container started": _unix(engine["state"]["running"]["startedAt"]),
        "replica program runs": stages["Ray"],
        "Ray and Serve are up": stages["Imports"],
        "vLLM is imported": stages["Engine"],
        "weights are loaded, engine is up": stages["SelfTest"],
        "self-test answered": stages["Ready"],
        "kubelet calls it ready": conditions["Ready"],
        "the gateway sends the held request": sent,
        "first token": first,
    }
    return Pieces(moments)


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def memory_of_pods(story: Models, namespaces: Sequence[str]) -> dict[str, float]:
    """Megabytes that each pod of this machine's node holds and could not give up, as kubelet says."""
    metrics = story.cluster.kubectl("get", "--raw", f"/api/v1/nodes/{NODE}/proxy/metrics/resource")
    found = re.findall(r'^pod_memory_working_set_bytes{namespace="(.+?)",pod="(.+?)"} (\S+)', metrics, re.MULTILINE)
    return {pod: float(size) / 1e6 for namespace, pod, size in found if namespace in namespaces}


def memory_of_parts(story: Models, pod: str) -> dict[str, float]:
    """Megabytes of each process of a replica, by its command line."""
    said = story.cluster.kubectl("exec", pod, "-n", story.namespace, "--", "python", "-c", _MEMORY)
    return {words: kilobytes / 1000 for words, kilobytes in json.loads(said).items()}


def finished_requests(story: Models, name: str) -> int:
    """How many requests the model's engines have finished since they started, their self-tests included."""
    total = 0
    for pod in story.pods(name):
        for line in replicas.ask(story, name, pod, "/metrics").splitlines():
            if line.startswith("vllm:request_success_total"):
                total += int(float(line.rpartition(" ")[2]))
    return total
