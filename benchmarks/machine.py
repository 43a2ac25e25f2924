"""Facts about the machine: what it is, and how much of it is free."""

import os
import platform
import re
import socket
import time
from collections.abc import Sequence
from pathlib import Path


def facts() -> dict[str, str]:
    """What a reader needs to judge figures."""
    cpu = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "CPU": f"{len(os.sched_getaffinity(0))} cores of {cpu[1] if cpu else 'unknown'}",
        "memory": f"{int(memory[1]) / 1024**2:.0f} GiB" if memory else "unknown",
        "Linux": platform.release(),
        "Python": platform.python_version(),
    }


def free_share(before: Sequence[int], after: Sequence[int]) -> float:
    """From two readings of the first line of /proc/stat: how much of the time all cores were idle."""
    passed = [late - early for early, late in zip(before, after, strict=True)]
    return (passed[3] + passed[4]) / sum(passed) if sum(passed) else 0.0


def measure_free_share(seconds: float) -> float:
    before = _times()
    time.sleep(seconds)
    return free_share(before, _times())


def _times() -> list[int]:
    line = Path("/proc/stat").read_text().partition("\n")[0]
    # The last two, guests, are contained in the first two.
    return [int(field) for field in line.split()[1:9]]


def taken(ports: Sequence[int]) -> list[int]:
    """Those of the ports that somebody listens on."""
    found = []
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                found.append(port)
    return found
