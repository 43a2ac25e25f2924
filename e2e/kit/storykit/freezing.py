"""Stop a pod's processes where they are and let them go on: a gateway that is there and says nothing."""

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from localkube.layout import CGROUP_FOLDER


def processes(pod: Mapping[str, Any], folder: Path = CGROUP_FOLDER) -> list[int]:
    """Those of all containers of a pod on this machine; kubelet names its cgroup after the UID."""
    uid = pod["metadata"]["uid"]
    found: set[int] = set()
    for name in (f"pod{uid}", f"*pod{uid.replace('-', '_')}*"):
        for group in folder.glob(f"**/{name}"):
            for file in group.rglob("cgroup.procs"):
                found.update(int(line) for line in file.read_text().split())
    return sorted(found)


@contextmanager
def frozen(pod: Mapping[str, Any]) -> Iterator[None]:
    """SIGSTOP, and SIGCONT at the end."""
    pids = processes(pod)
    assert pids, f"no process of {pod['metadata']['name']} is found on this machine"
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
