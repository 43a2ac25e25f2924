"""Plan how what is left of a cluster goes, and carry the plan out until nothing is left."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from localkube import caching, cgroups, leftovers, processes
from localkube import state as states
from localkube.commands import Refused, run
from localkube.layout import Layout, Node
from localkube.leftovers import Leftovers
from localkube.state import State

ROUNDS = 4
CGROUP_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do: the verb, and what it is done to."""

    verb: str  # end | unmount | delete-namespace | remove-cgroup | restore | remove
    what: str
    value: str = ""


def plan(found: Leftovers) -> list[Step]:
    """The steps, in an order that works: nothing is removed while something runs in it or is mounted below it."""
    return [
        *(Step("end", str(pid)) for pid in found.processes),
        *(Step("remove", path) for path in found.strays),
        *(Step("unmount", path) for path in found.mounts),
        *(Step("delete-namespace", name) for name in found.namespaces),
        *(Step("remove-cgroup", path) for path in found.cgroups),
        *(Step("restore", name, value) for name, value in found.sysctls),
        *(Step("remove", path) for path in found.folders),
        # The state file goes last: a stop that is itself killed can be run again.
        *([Step("remove", found.state_file)] if found.state_file else []),
    ]


def stop_cluster(layout: Layout, state: State) -> int:
    """End everything of the cluster; the number of steps it took. From now on nobody takes it for one that runs."""
    if layout.state_file.exists():
        states.write(layout.state_file, replace(state, stopping=True))
    for index in {1, 2, *state.nodes}:
        cgroups.thaw(layout.node(index))
    return _until_nothing_is_left(lambda: leftovers.of_cluster(layout, state))


def clear_node(node: Node) -> None:
    """Take away what a dead node still has in the kernel, so that it can be started again from its disk."""
    cgroups.thaw(node)
    _until_nothing_is_left(lambda: leftovers.of_node(node))


def kill_node(node: Node) -> int:
    """End a node's kubelet, containerd, shims and containers at once; the number of processes that ended."""
    cgroups.thaw(node)
    pids = processes.of_node(node)
    processes.end(pids)
    processes.end(processes.of_node(node))  # what a container started while we were looking
    return len(pids)


def _until_nothing_is_left(gather: Callable[[], Leftovers]) -> int:
    done = 0
    for _ in range(ROUNDS):
        steps = plan(gather())
        if not steps:
            return done
        _carry_out(steps)
        done += len(steps)
    left = ", ".join(f"{step.verb} {step.what}" for step in plan(gather()))
    if left:
        raise Refused(
            f"after {ROUNDS} rounds this is still to do: {left}; do it by hand or run `cluster.py stop` again"
        )
    return done


def _carry_out(steps: list[Step]) -> None:
    processes.end([int(step.what) for step in steps if step.verb == "end"])
    for step in steps:
        if step.verb == "unmount":
            unmount(step.what)
        elif step.verb == "delete-namespace":
            run(["ip", "netns", "delete", step.what], doing=f"removing the network {step.what}")
        elif step.verb == "remove-cgroup":
            _remove_cgroup(Path(step.what))
        elif step.verb == "restore":
            (leftovers.SYSCTLS / step.what).write_text(step.value)
        elif step.verb == "remove":
            _remove(step.what)


def unmount(path: str, mounted: Callable[[], list[str]] = leftovers.mounted) -> None:
    """Lazily when it is busy: the processes are gone, so the kernel lets go by itself. What is gone already is fine."""
    try:
        run(["umount", path], doing=f"unmounting {path}")
    except Refused:
        if path in mounted():
            run(["umount", "--lazy", path], doing=f"unmounting {path}")


def _remove_cgroup(path: Path) -> None:
    """An ended process leaves its cgroup a moment later."""
    deadline = time.monotonic() + CGROUP_SECONDS
    while path.exists():
        try:
            path.rmdir()
        except OSError as busy:
            if time.monotonic() > deadline:
                raise Refused(f"the cgroup {path} is still in use; end what runs in it and stop again") from busy
            time.sleep(0.05)


def _remove(path: str) -> None:
    """Never through a mount: what is mounted there belongs to somebody else."""
    left = leftovers.below([path], leftovers.mounted())
    if left:
        raise Refused(f"{left[0]} is still mounted, so {path} is not removed; unmount it and stop again")
    if os.path.lexists(path):
        caching.remove(Path(path))
