"""Where everything of the cluster lies and which names and addresses it uses."""

import os
from dataclasses import dataclass
from pathlib import Path

PREFIX = "shoal-cluster"  # of namespaces, cgroups and the state folder: what bears it is ours to remove
CONTROL_ADDRESS = "10.77.1.1"
API_PORT = 6443
API_URL = f"https://{CONTROL_ADDRESS}:{API_PORT}"
PODS = "10.78.0.0/16"
SERVICES = "10.79.0.0/16"
API_SERVICE_ADDRESS = "10.79.0.1"
DNS_SERVICE_ADDRESS = "10.79.0.10"
FAKE_PODS = "10.80.0.1/16"
DOMAIN = "cluster.local"
PAUSE_IMAGE = "localhost/pause:1"

NETNS_FOLDER = Path("/run/netns")
CGROUP_FOLDER = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Node:
    """One kubelet with its own network namespace, containerd and cgroup root; the first also runs the control plane."""

    index: int
    state: Path

    @property
    def name(self) -> str:
        return f"node{self.index}"

    @property
    def namespace(self) -> str:
        return f"{PREFIX}-{self.name}"

    @property
    def netns(self) -> Path:
        return NETNS_FOLDER / self.namespace

    @property
    def cgroup(self) -> str:
        return f"/{PREFIX}-{self.name}"

    @property
    def address(self) -> str:
        return f"10.77.{self.index}.1"

    @property
    def gateway(self) -> str:
        """The first node's end of the cable to this one."""
        return f"10.77.{self.index}.254"

    @property
    def pods(self) -> str:
        return f"10.78.{self.index}.0/24"

    @property
    def folder(self) -> Path:
        return self.state / self.name

    @property
    def volatile(self) -> Path:
        """What a real machine would lose when its power goes."""
        return self.folder / "run"

    @property
    def containerd_socket(self) -> Path:
        return self.volatile / "containerd.sock"

    @property
    def kubelet_folder(self) -> Path:
        return self.folder / "kubelet"


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders of the one cluster that a machine can hold."""

    state: Path
    cache: Path

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def configs(self) -> Path:
        return self.state / "config"

    @property
    def state_file(self) -> Path:
        return self.state / "state.json"

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig.yaml"

    def node(self, index: int) -> Node:
        return Node(index, self.state)


def from_environment() -> Layout:
    """The layout that SHOAL_CACHE and SHOAL_CLUSTER_STATE ask for."""
    cache = Path(os.environ.get("SHOAL_CACHE") or Path.home() / ".cache" / "shoal")
    state = Path(os.environ.get("SHOAL_CLUSTER_STATE") or f"/var/lib/{PREFIX}")
    return Layout(state=state.absolute(), cache=cache.absolute() / "cluster")
