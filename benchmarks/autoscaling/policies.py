"""What a policy sees and answers, and the one under test: Shoal's own, by the real `decide`."""

from collections import deque
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from shoal_api.model import Model
from shoal_api.modeldeployment import Spec
from shoal_api.scaling import Scaling
from shoal_operator import scaling
from shoal_operator.load import HISTORY_SECONDS, Load, Sample
from shoal_operator.scaling import FRESH, TUNING, Memory, Tuning

T0 = datetime(2026, 1, 1, tzinfo=UTC)
MOST_REPLICAS = 24
_DEFAULTS = Scaling()


@dataclass(frozen=True, slots=True)
class View:
    """What can be known at one moment."""

    waiting: int
    in_flight: int
    wanted: int
    ready: int
    idle_seconds: float
    """Since the last request came or ended."""
    arrived: int = 0
    """Requests so far."""

    @property
    def load(self) -> int:
        return self.waiting + self.in_flight


class Policy(Protocol):
    """Asked every second; how often it makes up its mind is its own affair."""

    def wanted(self, now: float, view: View) -> int:
        """So many replicas from now on."""


@dataclass
class Shoal:
    """`scaling.decide` with the history that the load stream would have brought."""

    target: int
    least: int = 1
    delay: int = _DEFAULTS.scale_down_delay_seconds
    idle: int = _DEFAULTS.idle_seconds
    tuning: Tuning = TUNING
    most: int = MOST_REPLICAS
    _samples: deque[Sample] = field(default_factory=deque)
    _memory: Memory = FRESH
    _spec: Spec = field(init=False)

    def __post_init__(self) -> None:
        rule = Scaling(
            min_replicas=self.least,
            max_replicas=self.most,
            target_load=self.target,
            idle_seconds=self.idle,
            scale_down_delay_seconds=self.delay,
        )
        self._spec = Spec(model=Model(source="hf://a/b"), scaling=rule)

    def wanted(self, now: float, view: View) -> int:
        at = T0 + timedelta(seconds=now)
        samples = self._samples
        sample = Sample(at, view.waiting, view.in_flight, view.arrived)
        if not samples or replace(samples[-1], at=at) != sample:
            samples.append(sample)
            begin = at - timedelta(seconds=HISTORY_SECONDS)
            while len(samples) > 1 and samples[1].at <= begin:
                samples.popleft()
        load = Load(samples, at - timedelta(seconds=view.idle_seconds))
        decision = scaling.decide(self._spec, view.wanted, view.ready, load, self._memory, at, self.tuning)
        self._memory = decision.memory
        return decision.replicas
