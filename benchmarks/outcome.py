"""What a run found: figures of every round, their medians, and how the peers stand to one another."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import quantiles


@dataclass(slots=True)
class PeerOutcome:
    """One peer over all rounds."""

    version: str = ""
    remark: str = ""
    rounds: list[dict[str, float]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    commands: dict[str, str] = field(default_factory=dict)
    left_out: str = ""
    """Why it was not measured at all."""
    broken: bool = False
    """Part of it could not be measured, or requests failed."""

    def values(self) -> dict[str, float]:
        """The median over the rounds, for each figure."""
        names = dict.fromkeys(name for values in self.rounds for name in values)
        return {name: quantiles.median([v[name] for v in self.rounds if name in v]) for name in names}


@dataclass(slots=True)
class Outcome:
    """Everything that results.json holds."""

    date: str
    command: str
    machine: dict[str, str]
    placement: str
    rounds: int
    trust: str
    idle: list[float]
    """How much of the machine was free before each round, with nothing of ours running."""
    peers: dict[str, PeerOutcome] = field(default_factory=dict)
    short: bool = False

    def to_text(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"


def read(path: Path) -> Outcome:
    values = json.loads(path.read_text())
    values["peers"] = {name: PeerOutcome(**peer) for name, peer in values["peers"].items()}
    return Outcome(**values)


@dataclass(frozen=True, slots=True)
class Ratio:
    """One figure of ours as a share of another's."""

    name: str
    ours: float
    theirs: float

    @property
    def share(self) -> float:
        return self.ours / self.theirs


_COMPARED = {
    "JSON requests/s, 32 connections": "json_c32_per_s",
    "short streams/s, 32 connections": "streams_per_s",
    "relayed events/s": "events_per_s",
    "220 KB bodies/s": "bodies_per_s",
}
_COSTS = {
    "JSON requests per CPU second": "json_c32_cpu_us",
    "short streams per CPU second": "streams_cpu_us",
    "relayed events per CPU second": "events_cpu_us",
    "the same, each event alone": "paced_128_event_cpu_us",
    "220 KB bodies per CPU second": "bodies_cpu_us",
}


def ratios(ours: Mapping[str, float], theirs: Mapping[str, float]) -> list[Ratio]:
    """What both have; costs are turned round, so that more is always better."""
    found = [(title, ours.get(name), theirs.get(name)) for title, name in _COMPARED.items()]
    for title, name in _COSTS.items():
        own, other = ours.get(name), theirs.get(name)
        found.append((title, 1e6 / own if own else None, 1e6 / other if other else None))
    return [Ratio(title, own, other) for title, own, other in found if own and other]
