"""Two nodes, for the stories that need them: one is killed or drained, and both are there again afterwards."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

from localkube import binaries, starting
from localkube.access import Access
from localkube.layout import Layout
from localkube.starting import Wanted

SECOND = 2


@dataclass(frozen=True, slots=True)
class Nodes:
    """The names of two nodes; what else is on the cluster stays on the first."""

    cluster: Access
    first: str
    second: str

    def cordon(self, name: str) -> None:
        """No new pod comes there."""
        self.cluster.kubectl("cordon", name)

    def uncordon(self, name: str) -> None:
        self.cluster.kubectl("uncordon", name)

    def drain(self, name: str, log: Path, seconds: int) -> Popen[bytes]:
        """`kubectl drain`, as it is typed before a node is taken away; its words go into `log`."""
        words = ["--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={seconds}s"]
        return self.cluster.start(["kubectl", "drain", name, *words], log)


@contextmanager
def of_this_machine(cluster: Access, place: Layout) -> Iterator[Nodes]:
    """The second node is started where it is not there, and open to pods for this long."""
    nodes = Nodes(cluster, place.node(1).name, place.node(SECOND).name)
    _start(place)
    nodes.uncordon(nodes.second)
    try:
        yield nodes
    finally:
        _start(place)
        nodes.uncordon(nodes.first)
        nodes.cordon(nodes.second)


def kill(place: Layout, nodes: Nodes) -> None:
    """As a power cut: packets vanish without an answer."""
    starting.kill(place, nodes.second, silently=True)


def spread(model: str) -> dict[str, Any]:
    """`spec.scheduling` that puts one replica on each node that is there."""
    constraint: Mapping[str, Any] = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        "nodeTaintsPolicy": "Honor",
        "labelSelector": {"matchLabels": {"shoal.dev/model": model}},
    }
    return {"topologySpread": [constraint]}


def of_pods(pods: list[Any]) -> list[str]:
    """The node of each pod that was not told to go."""
    return sorted(pod["spec"].get("nodeName", "") for pod in pods if not pod["metadata"].get("deletionTimestamp"))


def _start(place: Layout) -> None:
    starting.start(place, binaries.built(place.cache), Wanted(nodes=SECOND), print)
