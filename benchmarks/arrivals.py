"""Decide when requests begin: schedules in seconds after the start that do not wait for any answer (an open loop)."""

from collections.abc import Sequence
from random import Random
from typing import Literal

Kind = Literal["poisson", "fixed"]


def fixed(rate: float, seconds: float) -> list[float]:
    """One request every 1/rate seconds."""
    return [number / rate for number in range(round(rate * seconds))]


def poisson(rate: float, seconds: float, random: Random) -> list[float]:
    """Requests of many clients that know nothing of each other: on average `rate` a second."""
    times: list[float] = []
    now = random.expovariate(rate)
    while now < seconds:
        times.append(now)
        now += random.expovariate(rate)
    return times


def schedule(kind: Kind, rate: float, seconds: float, seed: int) -> list[float]:
    if rate <= 0 or seconds <= 0:
        raise ValueError(f"rate and seconds must be positive, not {rate} and {seconds}")
    return fixed(rate, seconds) if kind == "fixed" else poisson(rate, seconds, Random(seed))  # noqa: S311  (no secret)


def part(times: Sequence[float], process: int, processes: int) -> list[float]:
    """What one of several processes sends of a schedule."""
    return list(times[process::processes])


def rate_of(streams: int, seconds_each: float) -> float:
    """The arrivals a second that keep so many streams open on average (Little's law)."""
    return streams / seconds_each
