"""When requests come and how long they are: made traces, and two with the published statistics of a production service.

Azure LLM inference trace 2023 (Patel et al., Splitwise, ISCA 2024; github.com/Azure/AzurePublicDataset, CC-BY): 19,366
conversation and 8,819 code requests of one hour. From it: the requests of each minute, and of the conversations the
answer's median of 129 and mean of 211 tokens (at most 1,000) and the prompt's median of 1,020 and mean of 1,155.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

AZURE_CONVERSATION = (
    (3.2, 4.4, 5.5, 5.9, 5.1, 4.5, 4.5, 4.3, 5.4, 5.0, 5.0, 5.0, 5.8, 5.4, 4.7, 4.7, 4.7, 5.1, 5.7, 5.8)
    + (5.8, 5.7, 6.8, 6.6, 6.4, 6.6, 7.2, 8.0, 7.9, 7.5, 7.5, 8.4, 7.3, 6.9, 7.0, 7.0, 7.8, 5.2, 5.5, 5.3)
    + (5.5, 5.9, 5.3, 6.0, 5.6, 6.2, 5.5, 4.2, 3.7, 4.2, 4.4, 4.7, 4.3, 4.2, 4.0, 4.3, 4.1, 3.8)
)
"""Requests a second, minute by minute."""
AZURE_CODE = (
    (1.1, 0.0, 0.0, 8.8, 3.1, 2.2, 0.2, 0.7, 0.6, 7.9, 7.0, 1.1, 0.0, 0.0, 10.5, 5.0, 0.0, 0.3, 6.6, 5.2)
    + (1.9, 1.3, 5.1, 7.5, 4.2, 0.6, 2.1, 1.9, 6.8, 3.9, 2.0, 2.8, 2.2, 5.1, 2.6, 0.0, 5.7, 0.9, 4.8, 3.2)
    + (0.0, 0.5, 3.4, 4.1, 1.6, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 1.6, 3.5, 0.4, 0.5, 1.9, 0.8, 3.3)
)
_MEDIAN_ANSWER, _MEAN_ANSWER, _LONGEST_ANSWER = 129.0, 211.0, 1000.0
_MEDIAN_PROMPT, _MEAN_PROMPT, _LONGEST_PROMPT = 1020.0, 1155.0, 8192.0
_LOOK_SECONDS = 0.5

Rate = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Request:
    """One arrival; lengths in tokens."""

    at: float
    prompt: float
    answer: float


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests over so many seconds."""

    name: str
    seconds: float
    requests: tuple[Request, ...]
    least_replicas: int = 1


def make(name: str, seed: int) -> Trace:
    """One of NAMES; the same for the same seed."""
    chance = Random(f"{name} {seed}")  # noqa: S311  (no secret)
    seconds, rate = _RATES[name](chance)
    return Trace(name, seconds, tuple(_arrivals(seconds, rate, chance)), 0 if name in AT_ZERO else 1)


def _poisson(_chance: Random) -> tuple[float, Rate]:
    return 1800.0, lambda _at: 2.5


def _step(_chance: Random) -> tuple[float, Rate]:
    return 2400.0, lambda at: 4.0 if 600 <= at < 1500 else 0.7


def _spike(chance: Random) -> tuple[float, Rate]:
    """A calm base, and every few minutes a burst of half a minute to two."""
    bursts, at = [], 0.0
    while at < 3600:
        at += chance.uniform(150, 450)
        length = chance.uniform(30, 120)
        bursts.append((at, at + length, chance.uniform(3.0, 7.0)))
        at += length
    return 3600.0, lambda now: next((height for since, until, height in bursts if since <= now < until), 0.7)


def _diurnal(chance: Random) -> tuple[float, Rate]:
    """A day in two hours: a quiet night, a broad peak, and hills of some minutes that no two days share."""
    hills = [(chance.uniform(0, math.tau), chance.uniform(400, 1200), chance.uniform(0.05, 0.15)) for _ in range(4)]

    def rate(at: float) -> float:
        day = 0.2 + 4.3 * math.sin(math.pi * at / 7200) ** 2
        return day * max(0.0, 1 + sum(height * math.sin(at * math.tau / wide + begin) for begin, wide, height in hills))

    return 7200.0, rate


def _sparse(chance: Random) -> tuple[float, Rate]:
    """Somebody works for some minutes, then nobody for a quarter of an hour or more."""
    visits, at = [], 0.0
    while at < 10_800:
        at += chance.uniform(300, 2400)
        length = chance.uniform(60, 600)
        visits.append((at, at + length))
        at += length
    return 10_800.0, lambda now: 0.8 if any(since <= now < until for since, until in visits) else 0.0


def _minutes(rates: tuple[float, ...], share: float) -> Callable[[Random], tuple[float, Rate]]:
    return lambda _chance: (60.0 * len(rates), lambda at: share * rates[min(int(at // 60), len(rates) - 1)])


_RATES: dict[str, Callable[[Random], tuple[float, Rate]]] = {
    "poisson": _poisson,
    "step": _step,
    "spike": _spike,
    "diurnal": _diurnal,
    "azure-conversation": _minutes(AZURE_CONVERSATION, 0.6),
    "azure-code": _minutes(AZURE_CODE, 0.6),
    "sparse": _sparse,
}
NAMES = tuple(_RATES)
AT_ZERO = frozenset({"sparse"})
"""Where a policy may go to zero; else one replica is the least."""


def _arrivals(seconds: float, rate: Rate, chance: Random) -> list[Request]:
    """Poisson arrivals with a rate that moves slowly beside _LOOK_SECONDS."""
    found = []
    begin = 0.0
    while begin < seconds:
        expected = rate(begin) * _LOOK_SECONDS
        at = begin + (chance.expovariate(1.0) / expected * _LOOK_SECONDS if expected > 0 else _LOOK_SECONDS)
        while at < begin + _LOOK_SECONDS:
            prompt = _length(_MEDIAN_PROMPT, _MEAN_PROMPT, _LONGEST_PROMPT, chance)
            found.append(Request(at, prompt, _length(_MEDIAN_ANSWER, _MEAN_ANSWER, _LONGEST_ANSWER, chance)))
            at += chance.expovariate(1.0) / expected * _LOOK_SECONDS
        begin += _LOOK_SECONDS
    return found


def _length(median: float, mean: float, longest: float, chance: Random) -> float:
    """Log-normal with this median and mean, cut at the longest."""
    spread = math.sqrt(2 * math.log(mean / median))
    return max(1.0, min(longest, chance.lognormvariate(math.log(median), spread)))
