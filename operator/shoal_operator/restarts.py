"""Decide when a replica that ended is started again: after a pause that doubles, as kubelet does it."""

from dataclasses import dataclass
from datetime import datetime, timedelta

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 300.0
GOOD_RUN_SECONDS = 600.0
"""A run as long as this shows that the replica can live: the next pause is the first one again."""


@dataclass(frozen=True, slots=True)
class Restart:
    """When to start again, and the count of bad runs in a row to hand in next time."""

    at: datetime
    bad_runs: int


def after(bad_runs: int, started: datetime, ended: datetime) -> Restart:
    """When something that ran from `started` to `ended`, after `bad_runs` bad runs in a row, is started again."""
    if (ended - started).total_seconds() >= GOOD_RUN_SECONDS:
        bad_runs = 0
    pause = min(FIRST_PAUSE_SECONDS * 2.0 ** min(bad_runs, 30), LONGEST_PAUSE_SECONDS)
    return Restart(ended + timedelta(seconds=pause), bad_runs + 1)
