"""A model's load as it goes on in time, and what is decided at each moment: stories that move `now` and never sleep."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from builders import a_model
from replicas import T0
from shoal_operator import scaling
from shoal_operator.load import Load, Sample
from shoal_operator.scaling import FRESH, Decision, Memory


@dataclass
class Story:
    """One model, asked every half second; replicas become ready after `cold_seconds`."""

    rule: dict[str, Any]
    current: int = 0
    replicas: int | None = None
    cold_seconds: float = 30.0
    now: datetime = T0
    memory: Memory = FRESH
    load: Load = field(default_factory=Load)
    decisions: list[Decision] = field(default_factory=list)
    _ready_at: list[datetime] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ready_at = [self.now] * self.current

    @property
    def ready(self) -> int:
        return sum(at <= self.now for at in self._ready_at)

    @property
    def last(self) -> Decision:
        return self.decisions[-1]

    @property
    def counts(self) -> list[int]:
        """The numbers wanted, one after the other, each once."""
        found = [decision.replicas for decision in self.decisions]
        return [n for at, n in enumerate(found) if at == 0 or n != found[at - 1]]

    def goes_on(
        self,
        seconds: float,
        load: int | Callable[[float], int] = 0,
        *,
        waiting: int = 0,
        step: float = 0.5,
        **known: Any,
    ) -> "Story":
        """So many seconds with this load in flight, or what it is at each second of them; `known` replaces facts."""
        begin, samples = self.now, list(self.load.samples)
        while self.now <= begin + timedelta(seconds=seconds):
            in_flight = load((self.now - begin).total_seconds()) if callable(load) else load
            if not samples or (samples[-1].waiting, samples[-1].in_flight) != (waiting, in_flight):
                samples.append(Sample(self.now, waiting, in_flight))
            busy = self.now if waiting or in_flight else self.load.busy_at
            self.load = replace(self.load, samples=tuple(samples), busy_at=busy, missing=(), silent=(), **known)
            self.decide()
            self.now += timedelta(seconds=step)
        return self

    def silent_for(self, seconds: float, *gateways: str) -> "Story":
        """These gateways are Ready and say nothing; what is known stays as it is."""
        begin = self.now
        while self.now <= begin + timedelta(seconds=seconds):
            self.load = replace(self.load, missing=gateways, silent=tuple(f"{g} is silent" for g in gateways))
            self.decide()
            self.now += timedelta(seconds=0.5)
        return self

    def restarted(self) -> "Story":
        """The operator forgot everything but what the status says; gateways remember when somebody last asked."""
        self.memory = FRESH
        self.load = Load((), self.load.busy_at, T0 - timedelta(days=1))
        return self

    def decide(self) -> Decision:
        spec = a_model(scaling=self.rule, **({} if self.replicas is None else {"replicas": self.replicas})).spec
        decision = scaling.decide(spec, self.current, self.ready, self.load, self.memory, self.now)
        more = decision.replicas - self.current
        cold = self.now + timedelta(seconds=self.cold_seconds)
        self._ready_at = sorted(self._ready_at)[: decision.replicas] + [cold] * max(0, more)
        self.memory, self.current = decision.memory, decision.replicas
        self.decisions.append(decision)
        return decision

    def seconds_until(self, count: int, since: datetime) -> float:
        """How long after `since` this number was first wanted; decisions are half a second apart."""
        at = next(n for n, decision in enumerate(self.decisions) if decision.replicas == count)
        return (T0 + timedelta(seconds=at / 2) - since).total_seconds()
