"""What is measured: the requests, the engines' paces, and how long each part lasts."""

import json
from dataclasses import dataclass

from peers import MODEL
from stand_in import Pace

HEADERS = {"content-type": "application/json"}
PATH = "/v1/chat/completions"

INSTANT = Pace(0.0, 0.0, 16)
"""A ceiling of requests: the engine answers at once, a stream in one burst of 18 events."""
PACED = Pace(0.05, 0.01, 32)
"""An engine as people know it."""
STEADY = Pace(0.05, 0.01, 128)
"""Every event comes alone: a ceiling of events."""
SLOW = Pace(0.5, 1.0, 8)
"""Streams that stay open."""

MOST_STEADY_STREAMS = 768
_LEAST_STEADY_STREAMS = 16
SLOW_STREAMS = 1000
SLOW_ARRIVALS_PER_SECOND = 500
LARGE_BODY_BYTES = 220_000
MOST_OPEN_LOOP_PER_SECOND = 8_000
"""More plain requests than these a second our own client cannot time well on a core that it shares."""


def steady_streams(short_streams_per_second: float) -> int:
    """As many as a peer can begin while one lasts: a weak one would else be busy with beginning them alone."""
    return round(max(_LEAST_STEADY_STREAMS, min(short_streams_per_second * STEADY.seconds, MOST_STEADY_STREAMS)))


@dataclass(frozen=True, slots=True)
class Effort:
    """Seconds for each part; 0 leaves it out."""

    rounds: int
    json: dict[int, int]
    """By connections."""
    streams: int
    bodies: int
    events: int
    paced: dict[int, float]
    """By streams open on average."""
    memory: bool
    half: float
    calibrates: bool

    def seconds(self) -> float:
        """About how long one peer takes in one round, starts and pauses included."""
        loads = (
            sum(self.json.values()) + self.streams + self.bodies + self.events + sum(self.paced.values()) + self.half
        )
        parts = len(self.json) + 3 + len(self.paced) + 1
        return loads + 0.8 * parts + 3.5 + (SLOW.seconds + 3 if self.memory else 0)


FULL = Effort(
    rounds=3,
    json={1: 5, 32: 6, 128: 5},
    streams=6,
    bodies=5,
    events=8,
    paced={8: 10.0, 128: 10.0},
    memory=True,
    half=5.0,
    calibrates=True,
)
SHORT = Effort(
    rounds=1,
    json={1: 1, 32: 2},
    streams=2,
    bodies=0,
    events=2,
    paced={128: 2.0},
    memory=False,
    half=0.0,
    calibrates=False,
)


def body(*, streams: bool, characters: int = 40) -> str:
    words = ("the quick brown fox jumps over the lazy dog " * (characters // 44 + 1))[:characters]
    message = {"role": "user", "content": words}
    return json.dumps({"model": MODEL, "stream": streams, "messages": [message]}, separators=(",", ":"))
