"""What stories about rollouts share: GPUs that others hold, who serves by revision, and `shoal rollout`."""

import shlex
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from localkube.access import Access
from storykit.ledger import Ledger
from storykit.models import Models, a_model

GPU = "nvidia.com/gpu"
GPU_MODEL = {"gpu": 1, "cpu": "20m", "memory": "128Mi", "sharedMemory": "16Mi"}
"""Resources of a simulated engine that holds a GPU, as far as the cluster counts."""


def free_gpus(cluster: Access) -> int:
    """How many GPUs of this cluster no pod holds; nodes without machines behind them do not count."""
    nodes = {
        node["metadata"]["name"]: int(node["status"]["allocatable"].get(GPU, 0))
        for node in cluster.get("nodes")["items"]
        if not node["spec"].get("taints")
    }
    held = sum(
        int(container.get("resources", {}).get("limits", {}).get(GPU, 0))
        for pod in cluster.get("pods", "--all-namespaces")["items"]
        if pod["spec"].get("nodeName") in nodes and pod["status"]["phase"] in ("Pending", "Running")
        for container in pod["spec"]["containers"]
    )
    return sum(nodes.values()) - held


def leave_gpus(story: Models, count: int) -> None:
    """A model that stays takes all GPUs but so many."""
    others = free_gpus(story.cluster) - count
    assert others >= 0, f"the cluster needs {count} free GPUs"
    if others:
        story.apply(a_model("rest", resources=GPU_MODEL, replicas=others))
        story.wait_ready("rest", replicas=others)


def rollout(story: Models, *words: str) -> str:
    """What `shoal rollout …` says, whatever its exit status."""
    command = [sys.executable, "-m", "shoal_operator", "rollout", *words, "-n", story.namespace]
    return story.cluster.run(["bash", "-c", f"{shlex.join(command)} 2>&1 || true"]).strip()


def ready_by_revision(story: Models, name: str) -> Counter[str]:
    """How many ready replicas of each revision stay."""
    return Counter(revision(pod) for pod in story.pods(name) if is_ready(pod))


def revision(pod: Any) -> str:
    return str(pod["metadata"]["labels"]["shoal.dev/revision"])


def is_ready(pod: Any) -> bool:
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and not pod["metadata"].get("deletionTimestamp")


@dataclass(slots=True)
class Lowest:
    """The fewest ready replicas that were seen of each model."""

    story: Models
    seen: dict[str, int] = field(default_factory=dict)

    def look(self, name: str) -> None:
        count = sum(ready_by_revision(self.story, name).values())
        self.seen[name] = min(count, self.seen.get(name, count))

    def until(self, is_so: Callable[[], bool], *names: str) -> Callable[[], bool]:
        """The same question, with a look at these models each time it is asked."""

        def asked() -> bool:
            for name in names:
                self.look(name)
            return is_so()

        return asked


def is_complete(story: Models, name: str, old: str) -> bool:
    """Whether no pod of that revision is left and the operator says that nothing is to be done."""
    gone = all(revision(pod) != old for pod in story.pods(name))
    return gone and story.condition(name, "Progressing").get("reason") == "Complete"


def longest_wait(ledger: Ledger) -> float:
    """The longest that a request took, seconds."""
    return max((entry.ended - entry.began for entry in ledger.entries), default=0.0)
