"""What the watching child tells the gateway: one line per fact, decoded in turns that are too short to be felt."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from shoal_api.routes import ModelRoute

LINE_LIMIT = 64 * 1024 * 1024
STATE_SECONDS = 1.0
"""How often the child tells how its watches are, so that its silence means something."""

_ROUTE, _GONE, _WHOLE, _COMMIT, _STATE = b"R", b"G", b"A", b"C", b"S"


@dataclass(frozen=True, slots=True)
class Whole:
    """Everything was told: a model that was not named since the child began does not exist."""


@dataclass(frozen=True, slots=True)
class Commit:
    """What was told belongs together and holds now."""


@dataclass(frozen=True, slots=True)
class Gone:
    """A model is gone."""

    uid: str


@dataclass(frozen=True, slots=True)
class WatchState:
    """How the watches of one resource are."""

    age_seconds: float
    """Since the API server was last heard, on the watch that waits longest; -1 before the first time."""
    lists: int
    losses: Mapping[str, int]
    """Watches that were lost and begun anew, by reason."""


@dataclass(frozen=True, slots=True)
class State:
    """By resource."""

    watches: Mapping[str, WatchState]


Told = ModelRoute | Gone | Whole | Commit | State


def encode(told: Iterable[Told]) -> bytes:
    """Lines for the pipe."""
    return b"".join(_line(one) + b"\n" for one in told)


class Unreadable(Exception):
    """A line that `encode` does not write."""


def decode(line: bytes) -> Told:
    """What one line says."""
    try:
        return _decode(line)
    except (ValueError, TypeError, AttributeError) as error:
        raise Unreadable(f"{line[:40]!r}: {error}") from error


def _decode(line: bytes) -> Told:
    kind, content = line[:1], line[1:]
    if kind == _ROUTE:
        return ModelRoute.model_validate_json(content)
    if kind == _GONE:
        return Gone(content.decode())
    if kind == _WHOLE:
        return Whole()
    if kind == _COMMIT:
        return Commit()
    if kind == _STATE:
        return State({name: WatchState(**state) for name, state in json.loads(content).items()})
    raise ValueError("of an unknown kind")


def _line(told: Told) -> bytes:
    if isinstance(told, ModelRoute):
        return _ROUTE + told.model_dump_json(by_alias=True).encode()
    if isinstance(told, Gone):
        return _GONE + told.uid.encode()
    if isinstance(told, Whole):
        return _WHOLE
    if isinstance(told, Commit):
        return _COMMIT
    return _STATE + json.dumps({name: asdict(state) for name, state in told.watches.items()}).encode()
