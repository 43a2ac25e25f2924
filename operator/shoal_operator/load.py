"""The load of one model over time and over all gateways: the facts that scaling decides by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

HISTORY_SECONDS = 60.0
"""As far back as any decision looks."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The load as it was from `at` until the next sample."""

    at: datetime
    waiting: int
    in_flight: int

    @property
    def load(self) -> int:
        return self.waiting + self.in_flight


@dataclass(frozen=True, slots=True)
class Load:
    """What is known of one model's load now."""

    samples: Sequence[Sample] = ()
    """Oldest first; empty: no gateway has told anything, which is not the same as no load."""
    busy_at: datetime | None = None
    """When the last request was seen, as far as anybody remembers; None: nobody remembers one."""
    known_since: datetime | None = None
    """Requests before it may have gone unseen: a gateway of that time is gone, and nobody listened."""
    missing: tuple[str, ...] = ()
    """Gateways that should tell their load and did not, for a moment or longer: nothing may be concluded from less."""
    silent: tuple[str, ...] = ()
    """Those of them of which it must be said; each is a name and since when."""
    in_flight_by_replica: Mapping[str, int] = field(default_factory=dict)

    @property
    def newest(self) -> Sample:
        return self.samples[-1]


UNKNOWN = Load()


def mean(samples: Sequence[Sample], seconds: float, now: datetime) -> float:
    """The average load of the last seconds, over the part of them that is known."""
    begin = now - timedelta(seconds=seconds)
    total, until = 0.0, now
    for sample in reversed(samples):
        since = max(sample.at, begin)
        total += sample.load * (until - since).total_seconds()
        until = since
        if sample.at <= begin:
            break
    known = (now - until).total_seconds()
    return total / known if known > 0 else float(samples[-1].load)


def least(samples: Sequence[Sample], seconds: float, now: datetime) -> int:
    """The smallest load of the last seconds."""
    begin = now - timedelta(seconds=seconds)
    smallest = samples[-1].load
    for sample in reversed(samples):
        smallest = min(smallest, sample.load)
        if sample.at <= begin:
            break
    return smallest


def covers(samples: Sequence[Sample], seconds: float, now: datetime) -> bool:
    """Whether the last seconds are known from their beginning."""
    return bool(samples) and samples[0].at <= now - timedelta(seconds=seconds)
