"""Merge what the gateways tell into the load of each model; a gateway that is silent is not one without load."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from shoal_api.load import Claim, Claims, LoadMessage, ModelLoad
from shoal_operator.load import HISTORY_SECONDS, Load, Sample

SILENT_SECONDS = 3.0
"""A gateway says something every second."""
OUT_SECONDS = 15.0
"""One that is silent and gone or not Ready counts so long."""

_NO_LOAD = ModelLoad()


@dataclass(frozen=True, slots=True)
class Gateway:
    """One gateway as the place that runs it shows it; the name changes with the pod."""

    name: str
    host: str
    port: int
    is_ready: bool


@dataclass(slots=True)
class _Told:
    """What one gateway said, and when."""

    first_seen: datetime
    facts: Gateway | None = None
    """None: it is gone."""
    heard: datetime | None = None
    ready_until: datetime | None = None
    """When it was last seen to be Ready, and may have served somebody."""
    boot: str = ""
    sequence: int = 0
    models: dict[str, ModelLoad] = field(default_factory=dict)

    def is_heard(self, now: datetime) -> bool:
        return self.heard is not None and (now - self.heard).total_seconds() < SILENT_SECONDS


@dataclass(slots=True)
class _Model:
    """The history of one model."""

    samples: deque[Sample] = field(default_factory=deque)
    arrived: int = 0
    busy_at: datetime | None = None
    in_flight_by_replica: dict[str, int] = field(default_factory=dict)


class OutOfOrder(ValueError):
    """A message is missing before this one: the stream must begin anew."""


class Merger:
    """Knows every gateway and the last minute of every model. Times come in as arguments."""

    def __init__(self, now: datetime) -> None:
        self._began = now
        self._known_since: datetime | None = None
        self._unseen_until: datetime | None = None
        """Until then a gateway that was silent and Ready may have served somebody, and it is gone."""
        self._told: dict[str, _Told] = {}
        self._models: dict[str, _Model] = {}
        self._voices: Mapping[str, bool] = {}
        self._heard_since: datetime | None = None
        """When the first gateway spoke; before, nothing is known of any model."""

    def see(self, gateways: Iterable[Gateway], now: datetime) -> frozenset[str] | None:
        """Learn which gateways there are; the models whose load is another without those that went out.

        None: who can be believed has changed, which concerns every model.
        """
        present = {gateway.name: gateway for gateway in gateways}
        for name, gateway in present.items():
            told = self._told.setdefault(name, _Told(now))
            told.facts = gateway
            if gateway.is_ready:
                told.ready_until = now
        changed: set[str] = set()
        for name, told in list(self._told.items()):
            if name not in present:
                told.facts = None
            if self._is_out(told, now):
                changed |= set(told.models)
                self._note_unseen(told)
                told.models, told.boot = {}, ""
                if told.facts is None:
                    del self._told[name]
        self._sample(changed, now)
        before, self._voices = self._voices, self._believed(now)
        return frozenset(changed) if before == self._voices else None

    def hear(self, name: str, message: LoadMessage, now: datetime) -> frozenset[str]:
        """Take a message in; the models whose load it changes. Raises OutOfOrder where one before it was lost."""
        told = self._told.setdefault(name, _Told(now))
        before = told.models
        is_whole_story = told.boot == message.boot and (not message.is_whole or told.is_heard(now))
        if message.is_whole:
            changed = set(told.models) | set(message.models)
            if told.boot != message.boot:
                self._remember_boot(told, now - timedelta(seconds=message.uptime_seconds))
                self._note_unseen(told)
            told.boot, told.models = message.boot, dict(message.models)
        elif told.boot != message.boot or message.sequence != told.sequence + 1:
            raise OutOfOrder(f"message {message.sequence} of boot {message.boot} after {told.sequence} of {told.boot}")
        else:
            changed = set(message.models)
            told.models = told.models | message.models
        told.heard, told.sequence = now, message.sequence
        if self._heard_since is None:
            self._heard_since = now
        for model, load in message.models.items():
            self._note_use(model, load, now)
            self._models[model].arrived += _arrivals(load, before.get(model, _NO_LOAD), is_whole_story)
        return self._sample(changed, now)

    def load(self, model: str, now: datetime) -> Load:
        """What is known of the model now."""
        heard_since = self._heard_since
        if heard_since is None or not any(self._counts(told, now) for told in self._told.values()):
            return Load(missing=self._missing(now), silent=self._silent(now))
        known = self._models.get(model)
        if known is None:
            nothing = (Sample(heard_since, 0, 0),)
            return Load(nothing, self._unseen_until, self._known_since, self._missing(now), self._silent(now))
        return Load(
            tuple(known.samples),
            max((at for at in (known.busy_at, self._unseen_until) if at is not None), default=None),
            self._known_since,
            self._missing(now),
            self._silent(now),
            known.in_flight_by_replica,
        )

    def elsewhere(self, name: str) -> dict[str, dict[str, int]]:
        """What the other gateways have in flight, by model and replica."""
        sums: dict[str, dict[str, int]] = {}
        for other, told in self._told.items():
            if other != name:
                for model, load in told.models.items():
                    if load.in_flight_by_replica:
                        _add(sums.setdefault(model, {}), load.in_flight_by_replica)
        return sums

    def claims(self, name: str, now: datetime) -> dict[str, Claims]:
        """Where callers wait, by model, as this gateway is told it; whoever is silent claims nothing."""
        found: dict[str, list[tuple[str, Claim]]] = {}
        for other, told in sorted(self._told.items()):
            if told.is_heard(now):
                for model, load in told.models.items():
                    if load.callers:
                        claim = Claim(callers=load.callers, requests=load.waiting + load.in_flight)
                        found.setdefault(model, []).append((other, claim))
        claims = {}
        for model, there in found.items():
            names = [other for other, _ in there]
            if names != [name]:
                own = names.index(name) if name in names else None
                claims[model] = Claims(claims=[claim for _, claim in there], own=own)
        return claims

    def forget(self, models: Iterable[str]) -> None:
        """These models are no more."""
        for model in models:
            self._models.pop(model, None)

    def _remember_boot(self, told: _Told, booted: datetime) -> None:
        """The one before it may have served somebody whom nobody saw: until it began, or we did."""
        booted = min(booted, self._began)
        if told.heard is None and (self._known_since is None or booted > self._known_since):
            self._known_since = booted

    def _note_unseen(self, told: _Told) -> None:
        """Of a gateway that is no more, or begins anew, nobody will tell what it served while it was silent."""
        if told.heard is None or told.ready_until is None:
            return
        was_silent = (told.ready_until - told.heard).total_seconds() >= OUT_SECONDS
        if was_silent and (self._unseen_until is None or told.ready_until > self._unseen_until):
            self._unseen_until = told.ready_until

    def _note_use(self, model: str, load: ModelLoad, now: datetime) -> None:
        known = self._models.setdefault(model, _Model())
        if not known.samples and self._heard_since is not None and self._heard_since < now:
            known.samples.append(Sample(self._heard_since, 0, 0))
        used = now if load.waiting or load.in_flight else now - timedelta(seconds=load.idle_seconds)
        if known.busy_at is None or used > known.busy_at:
            known.busy_at = used

    def _sample(self, models: Iterable[str], now: datetime) -> frozenset[str]:
        """Note the present sums of these models; those that changed."""
        changed = []
        for model in models:
            known = self._models.get(model)
            if known is None:
                continue
            loads = [told.models.get(model, _NO_LOAD) for told in self._told.values()]
            waiting, in_flight = sum(load.waiting for load in loads), sum(load.in_flight for load in loads)
            sample = Sample(now, waiting, in_flight, known.arrived)
            known.in_flight_by_replica = _sum_by_replica(load.in_flight_by_replica for load in loads)
            last = known.samples[-1] if known.samples else None
            if last is None or replace(last, at=now) != sample:
                known.samples.append(sample)
                changed.append(model)
            _drop_old(known.samples, now)
        return frozenset(changed)

    def _is_out(self, told: _Told, now: datetime) -> bool:
        """Whether a gateway does not count any more: silent for long, and not there to be asked."""
        if told.facts is not None and told.facts.is_ready:
            return False
        return (now - (told.heard or told.first_seen)).total_seconds() >= OUT_SECONDS

    def _counts(self, told: _Told, now: datetime) -> bool:
        return told.heard is not None and not self._is_out(told, now)

    def _missing(self, now: datetime) -> tuple[str, ...]:
        """Whom nothing may be concluded without: silent, and Ready or heard a moment ago."""
        return tuple(
            sorted(
                name
                for name, told in self._told.items()
                if not told.is_heard(now)
                and (told.heard is not None or (told.facts is not None and told.facts.is_ready))
                and not self._is_out(told, now)
            )
        )

    def _silent(self, now: datetime) -> tuple[str, ...]:
        """Those that are Ready and must be complained about."""
        return tuple(
            f"gateway {name} is Ready and has not told its load since {since:%H:%M:%S}Z"
            for name, told in sorted(self._told.items())
            if told.facts is not None
            and told.facts.is_ready
            and (now - (since := told.heard or told.first_seen)).total_seconds() >= SILENT_SECONDS
        )

    def _believed(self, now: datetime) -> Mapping[str, bool]:
        return {name: told.is_heard(now) for name, told in self._told.items() if not self._is_out(told, now)}


def _arrivals(load: ModelLoad, before: ModelLoad, is_whole_story: bool) -> int:
    """How many came since.

    How long a request runs is reckoned from who came, who is there and for how long: of a gateway that is heard for the
    first time, or again after a silence, only those count who were seen to be there.
    """
    if is_whole_story:
        return max(0, load.arrived - before.arrived)
    return max(0, load.waiting + load.in_flight - before.waiting - before.in_flight)


def _sum_by_replica(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for by_replica in counts:
        _add(sums, by_replica)
    return sums


def _add(sums: dict[str, int], counts: Mapping[str, int]) -> None:
    for replica, count in counts.items():
        sums[replica] = sums.get(replica, 0) + count


def _drop_old(samples: deque[Sample], now: datetime) -> None:
    """Keep one that began before the minute: it tells how the load was when the minute began."""
    begin = now - timedelta(seconds=HISTORY_SECONDS)
    while len(samples) > 1 and samples[1].at <= begin:
        samples.popleft()
