"""Decide which of many measured values speaks for them: percentiles by nearest rank, medians over rounds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """Half of the values lie at or below `p50`, 99 of 100 at or below `p99`."""

    count: int
    p50: float
    p99: float
    greatest: float


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest of the ordered values that has at least this share of all at or below it."""
    if not ordered:
        raise ValueError("there is no percentile of no values")
    if not 0 < share <= 1:
        raise ValueError(f"a share lies above 0 and at most at 1, {share} does not")
    # The small amount keeps a product such as 0.99 × 100 from being rounded up past its rank.
    return ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)]


def spread(values: Sequence[float]) -> Spread | None:
    """None where nothing was measured: no data is not zero."""
    if not values:
        return None
    ordered = sorted(values)
    return Spread(len(ordered), percentile(ordered, 0.5), percentile(ordered, 0.99), ordered[-1])


def median(values: Sequence[float]) -> float:
    """The lower of the two middle values where their number is even, so that it is always one that was measured."""
    return percentile(sorted(values), 0.5)
