"""The load of one model over time and over all gateways: the facts that scaling decides by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice

HISTORY_SECONDS = 60.0
"""As far back as any decision looks."""
_LEAST_KNOWN_SECONDS = 1.0
_ENOUGH_ENDED = 10


@dataclass(frozen=True, slots=True)
class Sample:
    """The load as it was from `at` until the next sample."""

    at: datetime
    waiting: int
    in_flight: int
    arrived: int = 0
    """Requests so far; only differences mean something."""

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
    unknown_because: str = "no gateway has told its load yet"
    """What to say where there are no samples."""

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


def least_of_each(samples: Sequence[Sample], seconds: float, now: datetime) -> tuple[int, int]:
    """The smallest number of waiting and the smallest of running requests in the last seconds."""
    begin = now - timedelta(seconds=seconds)
    waiting, in_flight = samples[-1].waiting, samples[-1].in_flight
    for sample in reversed(samples):
        waiting, in_flight = min(waiting, sample.waiting), min(in_flight, sample.in_flight)
        if sample.at <= begin:
            break
    return waiting, in_flight


def rate(samples: Sequence[Sample], seconds: float, now: datetime) -> float:
    """Arrivals a second over the last seconds, or over the part of them that is known."""
    first = _in_force(samples, now - timedelta(seconds=seconds))
    known = min(seconds, (now - first.at).total_seconds())
    return (samples[-1].arrived - first.arrived) / max(known, _LEAST_KNOWN_SECONDS)


def service_seconds(samples: Sequence[Sample], now: datetime) -> float | None:
    """How long a request runs, by Little's law over the history; None where too few ended to tell."""
    first = samples[0]
    known = (now - first.at).total_seconds()
    ended = samples[-1].arrived - first.arrived - samples[-1].load + first.load
    if ended < _ENOUGH_ENDED or known <= 0:
        return None
    running = sum(
        sample.in_flight * (after - sample.at).total_seconds()
        for sample, after in zip(samples, [*(s.at for s in islice(samples, 1, None)), now], strict=True)
    )
    return running / ended


def _in_force(samples: Sequence[Sample], at: datetime) -> Sample:
    """The sample that held at this moment, or the first."""
    for sample in reversed(samples):
        if sample.at <= at:
            return sample
    return samples[0]


def covers(samples: Sequence[Sample], seconds: float, now: datetime) -> bool:
    """Whether the last seconds are known from their beginning."""
    return bool(samples) and samples[0].at <= now - timedelta(seconds=seconds)
