"""The door to processes: start one that outlives us, know it again later, find all that belong to a node, end them."""

import os
import shutil
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from localkube.commands import Refused, last_lines
from localkube.layout import CGROUP_FOLDER, Node

# Components get no proxies and no other wishes of the shell that started them.
PLAIN_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
END_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Process:
    """A process we started; with its start time, since a bare pid may belong to somebody else by now."""

    name: str
    pid: int
    started: int


def started_at(pid: int, proc: Path = Path("/proc")) -> int | None:
    """When the kernel says this process started (in its ticks), or None when it is gone or a zombie."""
    try:
        # The name in parentheses may itself hold spaces and parentheses.
        fields = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])


def is_alive(process: Process) -> bool:
    """Does this very process still run?"""
    try:
        os.waitpid(process.pid, os.WNOHANG)  # when it is a child of ours, it must not stay a zombie
    except ChildProcessError:
        pass
    return started_at(process.pid) == process.started


def inside(node: Node, argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` in the node's network; `ip netns exec` would hide the cgroup mounts."""
    return [shutil.which("nsenter") or "/usr/bin/nsenter", f"--net={node.netns}", "--", *argv]


def start(name: str, argv: Sequence[str], node: Node, log: Path) -> Process:
    """Start a component in the node's network with its output in `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    command = inside(node, argv)
    pid = os.posix_spawn(
        command[0],
        command,
        PLAIN_ENVIRONMENT,
        setsid=True,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
    )
    started = started_at(pid)
    if started is None:
        raise Refused(f"{name} ended as soon as it was started: {end_of(log)}")
    return Process(name, pid, started)


def end_of(log: Path) -> str:
    """The last words of a component."""
    return last_lines(log.read_text(errors="replace")[-4000:]) if log.exists() else "it left no log"


def of_node(node: Node, proc: Path = Path("/proc"), cgroups: Path = CGROUP_FOLDER) -> set[int]:
    """Every process in the node's network namespace (components, shims) or below its cgroups (containers)."""
    found = {int(pid) for procs in cgroups.glob(f"*{node.cgroup}/**/cgroup.procs") for pid in _read_words(procs)}
    if node.netns.exists():
        wanted = f"net:[{node.netns.stat().st_ino}]"
        found |= {int(link.parts[-3]) for link in proc.glob("[0-9]*/ns/net") if _target(link) == wanted}
    return found - _lineage(os.getpid(), proc)


def end(pids: Iterable[int], seconds: float = END_SECONDS) -> None:
    """End these processes for good and wait until they are gone."""
    waiting = {pid: started_at(pid) for pid in pids}
    deadline = time.monotonic() + seconds
    while waiting:
        for pid, started in list(waiting.items()):
            if started is None or not is_alive(Process("", pid, started)):
                del waiting[pid]
                continue
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                del waiting[pid]
        if time.monotonic() > deadline:
            raise Refused(
                f"processes {sorted(waiting)} do not end even when killed; look at their state and stop again"
            )
        time.sleep(0.05)


def environment_inside(base: Mapping[str, str], kubeconfig: Path, search_path: str, no_proxy: str) -> dict[str, str]:
    """The environment of a command of the user's in the cluster's network."""
    path = f"{search_path}:{base.get('PATH', PLAIN_ENVIRONMENT['PATH'])}"
    return {**base, "KUBECONFIG": str(kubeconfig), "PATH": path, "NO_PROXY": no_proxy, "no_proxy": no_proxy}


def _lineage(pid: int, proc: Path) -> set[int]:
    """This process and those that started it: a command run by `enter` may itself stop the cluster."""
    found: set[int] = set()
    while pid > 1:
        found.add(pid)
        try:
            pid = int((proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            break
    return found


def _read_words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:  # the cgroup went while we looked
        return []


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # the process went while we looked
        return ""
