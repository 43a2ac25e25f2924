"""The door to the cgroup: how much CPU there is, and whether the kernel has ended a process for want of memory."""

import os
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


def kills(root: Path = _ROOT) -> int:
    """How many processes the kernel has ended here because the memory limit was reached."""
    for file in (root / "memory.events", root / "memory" / "memory.oom_control"):
        try:
            lines = file.read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return 0


def cpus(root: Path = _ROOT) -> int:
    """How many cores this replica may use at once, at least 1."""
    allowed = len(os.sched_getaffinity(0))
    quota = _quota(root)
    return max(1, min(allowed, int(quota))) if quota else allowed


def _quota(root: Path) -> float | None:
    try:
        limit, period = (root / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except OSError:
        pass
    try:
        limit = (root / "cpu" / "cpu.cfs_quota_us").read_text()
        period = (root / "cpu" / "cpu.cfs_period_us").read_text()
    except OSError:
        return None
    return int(limit) / int(period) if int(limit) > 0 else None
