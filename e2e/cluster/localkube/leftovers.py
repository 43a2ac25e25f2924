"""Gather what the cluster, or one node of it, has on this machine: the facts that a stop is planned from."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from localkube import cgroups, network, processes
from localkube.layout import NETNS_FOLDER, PREFIX, Layout, Node
from localkube.state import State

CNI_RESULTS = Path("/var/lib/cni/results")
CONTAINER_LOGS = Path("/var/log/containers")
SYSCTLS = Path("/proc/sys")

# Folders that containerd, CNI, kubelet and ip make outside what they are told to use.
MADE_ELSEWHERE = (
    "/run/containerd",
    "/run/netns",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
    "/usr/libexec/kubernetes",
)
# Machine-wide values that a kubelet changes.
CHANGED_SYSCTLS = (
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Everything of ours that is there now."""

    processes: tuple[int, ...] = ()
    mounts: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    cgroups: tuple[str, ...] = ()
    strays: tuple[str, ...] = ()  # files of ours in folders that are not ours
    sysctls: tuple[tuple[str, str], ...] = ()  # values to give back
    folders: tuple[str, ...] = ()
    state_file: str | None = None


def of_cluster(layout: Layout, state: State) -> Leftovers:
    """All of it, also what no state file tells: names and folders of ours are enough to find it."""
    nodes = [layout.node(index) for index in sorted({1, 2, *state.nodes})]
    recorded = {process.pid for process in state.processes if processes.is_alive(process)}
    mounts = mounted()
    foreign_namespaces = [name for name in network.namespaces() if not name.startswith(f"{PREFIX}-")]
    made = [
        path for path in state.made if Path(path).exists() and not (path == str(NETNS_FOLDER) and foreign_namespaces)
    ]
    contents = (
        [str(path) for path in layout.state.iterdir() if path != layout.state_file] if layout.state.is_dir() else []
    )
    return Leftovers(
        processes=tuple(sorted(recorded.union(*(processes.of_node(node) for node in nodes)))),
        mounts=tuple(below([str(layout.state), *made], mounts)),
        namespaces=tuple(name for name in network.namespaces() if name.startswith(f"{PREFIX}-")),
        cgroups=tuple(str(path) for path in cgroups.leftovers()),
        strays=tuple(path for path in (*_sockets(nodes), *_links(layout.state), *_notes()) if os.path.lexists(path)),
        sysctls=tuple((name, value) for name, value in state.sysctls.items() if sysctl(name) != value),
        folders=(*contents, *made),
        state_file=str(layout.state) if layout.state.exists() else None,
    )


def of_node(node: Node) -> Leftovers:
    """What a node that lost its power still has in the kernel; its disk is left as it is."""
    return Leftovers(
        processes=tuple(sorted(processes.of_node(node))),
        mounts=tuple(below([str(node.folder)], mounted())),
        namespaces=(node.namespace,) if node.netns.exists() else (),
        cgroups=tuple(str(path) for path in cgroups.leftovers(node.cgroup.lstrip("/"))),
        strays=tuple(path for path in _sockets([node]) if os.path.lexists(path)),
        folders=(str(node.volatile),) if node.volatile.exists() else (),
    )


def mounted(mountinfo: Path = Path("/proc/self/mountinfo")) -> list[str]:
    """Every mount point, in the order of mounting."""
    return [mount_point(line) for line in mountinfo.read_text().splitlines()]


def mount_point(line: str) -> str:
    """The mount point that a line of mountinfo tells; it writes blanks as octal numbers."""
    return line.split()[4].encode().decode("unicode_escape")


def below(folders: Iterable[str], mounts: Iterable[str]) -> list[str]:
    """The mounts at or below these folders, the youngest first, as they must be undone."""
    wanted = list(folders)
    return [mount for mount in reversed(list(mounts)) if any(Path(mount).is_relative_to(folder) for folder in wanted)]


def sysctl(name: str) -> str:
    """A machine-wide value, or nothing when the kernel has no such one."""
    path = SYSCTLS / name
    return path.read_text().strip() if path.exists() else ""


def _sockets(nodes: Iterable[Node]) -> list[str]:
    """The sockets of shims: they lie in a folder that all containerds share; each bundle tells its own."""
    bundles = "containerd/io.containerd.runtime.v2.task/*/*/address"
    addresses = [address for node in nodes for address in node.volatile.glob(bundles)]
    return [address.read_text().strip().removeprefix("unix://") for address in addresses]


def _links(state: Path) -> list[str]:
    """The links that kubelets make to our pods' logs, among those of others."""
    links = [path for path in _entries(CONTAINER_LOGS) if path.is_symlink()]
    return [str(link) for link in links if link.readlink().is_relative_to(state)]


def _notes() -> list[str]:
    """What CNI remembers of containers in our networks, among those of others."""
    notes = {path: _note(path) for path in _entries(CNI_RESULTS)}
    ours = {note.get("containerId") for note in notes.values() if str(note.get("networkName")).startswith(f"{PREFIX}-")}
    return [str(path) for path, note in notes.items() if note.get("containerId") in ours - {None}]


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _note(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text())
    except ValueError:  # another program's file
        return {}
    return content if isinstance(content, dict) else {}
