"""What the stream client is told to send and what it saw; and how far that can be believed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import arrivals
import quantiles


@dataclass(frozen=True, slots=True)
class Order:
    """What one process is told to send."""

    url: str
    body: str
    rate: float
    seconds: float
    kind: arrivals.Kind = "poisson"
    seed: int = 1
    connections: int = 16
    """Opened before the schedule begins; more are opened when all are taken."""
    patience_seconds: float = 10.0
    """So long after the last arrival what is still open counts as `timeout`."""
    begin: float = 0.0
    """Where the schedule's zero lies on the machine's monotonic clock."""
    process: int = 0
    processes: int = 1


@dataclass(slots=True)
class Sheet:
    """What one process saw, or several together. Times are microseconds."""

    intended: int = 0
    complete: int = 0
    events: int = 0
    first: list[int] = field(default_factory=list)
    gap: list[int] = field(default_factory=list)
    whole: list[int] = field(default_factory=list)
    late: list[int] = field(default_factory=list)
    """From the intended beginning to the moment the request was taken up: the client's own fault."""
    errors: dict[str, int] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    lasted_seconds: float = 0.0
    """From the schedule's beginning to the end of the last answer."""


def merged(sheets: Sequence[Sheet]) -> Sheet:
    """One sheet for what several processes saw; CPU is that of the busiest, since that one is the bottleneck."""
    errors: Counter[str] = Counter()
    together = Sheet()
    for sheet in sheets:
        together.intended += sheet.intended
        together.complete += sheet.complete
        together.events += sheet.events
        together.first += sheet.first
        together.gap += sheet.gap
        together.whole += sheet.whole
        together.late += sheet.late
        errors.update(sheet.errors)
        together.cpu_seconds = max(together.cpu_seconds, sheet.cpu_seconds)
        together.lasted_seconds = max(together.lasted_seconds, sheet.lasted_seconds)
    together.errors = dict(sorted(errors.items()))
    return together


def distrust(sheet: Sheet) -> str:
    """Why the figures say more about this client than about the server; empty where they do not."""
    late = quantiles.spread(sheet.late)
    if late is None:
        return "nothing was sent"
    if late.p99 > 5_000:
        return f"the client was up to {late.p99 / 1000:.1f} ms late (p99)"
    busy = sheet.cpu_seconds / sheet.lasted_seconds if sheet.lasted_seconds else 0.0
    return f"the client was busy {busy:.0%} of the time" if busy > 0.85 else ""


def summary(sheet: Sheet) -> str:
    """What a person reads."""
    lines = [f"{sheet.complete} of {sheet.intended} complete, {sheet.events} events in {sheet.lasted_seconds:.2f} s"]
    for name, values in (("first", sheet.first), ("gap", sheet.gap), ("whole", sheet.whole), ("late", sheet.late)):
        seen = quantiles.spread(values)
        if seen is not None:
            line = f"{name:6} p50 {seen.p50 / 1000:8.2f} ms   p99 {seen.p99 / 1000:8.2f} ms   "
            lines.append(line + f"greatest {seen.greatest / 1000:8.2f} ms")
    lines += [f"error  {kind}: {count}" for kind, count in sheet.errors.items()]
    reason = distrust(sheet)
    return "\n".join([*lines, f"not trustworthy: {reason}" if reason else "trustworthy"])
