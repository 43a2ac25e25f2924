"""Wait for a fact with a deadline, and give up at once when the process it depends on has died."""

import time
from collections.abc import Callable
from pathlib import Path

from localkube.commands import Refused
from localkube.processes import Process, end_of, is_alive

POLL_SECONDS = 0.2


def until(
    is_so: Callable[[], bool],
    *,
    what: str,
    seconds: float,
    needs: tuple[Process, ...] = (),
    logs: Path | None = None,
    poll_seconds: float = POLL_SECONDS,
    now: Callable[[], float] = time.monotonic,
    rest: Callable[[float], None] = time.sleep,
) -> float:
    """Seconds until it was so. A Refused inside `is_so` means not yet; the last one explains a missed deadline."""
    began = now()
    last = ""
    while True:
        try:
            if is_so():
                return now() - began
        except Refused as not_yet:
            last = f" ({not_yet})"
        for process in needs:
            if not is_alive(process):
                words = end_of(logs / f"{process.name}.log") if logs else "no log is kept"
                raise Refused(f"{process.name} ended while we waited for {what}: {words}")
        if now() - began > seconds:
            where = f"; the logs are in {logs}" if logs else ""
            raise Refused(f"no {what} within {seconds:g} s{last}{where}")
        rest(poll_seconds)
