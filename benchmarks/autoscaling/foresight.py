"""A policy that knows every arrival beforehand: what following the load could bring at best, to judge the others by."""

import math
from collections import deque
from collections.abc import Sequence
from itertools import accumulate

from autoscaling.policies import MOST_REPLICAS, View
from autoscaling.traces import Trace
from autoscaling.world import Machine

_SMOOTH_SECONDS = 30


class Foresight:
    """As many as will run by the time that a replica made now is ready; none goes that is needed again before that."""

    def __init__(self, trace: Trace, machine: Machine, target: int, most: int = MOST_REPLICAS) -> None:
        start = math.ceil(machine.cold_start_seconds[1])
        needs = [math.ceil(load / target - 1e-9) for load in _smoothed(_running(trace, machine, target))]
        bounded = [min(max(need, trace.least_replicas), most) for need in needs]
        self._up, self._keep = _most_ahead(bounded, start), _most_ahead(bounded, 2 * start)

    def wanted(self, now: float, view: View) -> int:
        at = min(int(now), len(self._up) - 1)
        return max(self._up[at], min(view.wanted, self._keep[at]))


def _running(trace: Trace, machine: Machine, target: int) -> list[float]:
    """How many run in each second where nobody waits and each replica runs `target`."""
    pace = machine.step_seconds + machine.step_seconds_per_request * target
    changes = [0.0] * (int(trace.seconds) + 2)
    for request in trace.requests:
        lasts = pace * (request.answer + request.prompt / machine.prompt_tokens_per_second / machine.step_seconds)
        changes[int(request.at)] += 1
        changes[min(int(request.at + lasts), len(changes) - 1)] -= 1
    return list(accumulate(changes))


def _smoothed(values: Sequence[float]) -> list[float]:
    """The mean around each second: no replica is bought for one request more."""
    half = _SMOOTH_SECONDS // 2
    sums = [0.0, *accumulate(values)]
    spans = [(max(0, at - half), min(len(values), at + half + 1)) for at in range(len(values))]
    return [(sums[end] - sums[begin]) / (end - begin) for begin, end in spans]


def _most_ahead(values: Sequence[int], seconds: int) -> list[int]:
    """The greatest from each second on for so many seconds."""
    found = [0] * len(values)
    greatest: deque[int] = deque()
    for at in range(len(values) - 1, -1, -1):
        while greatest and values[greatest[-1]] <= values[at]:
            greatest.pop()
        greatest.append(at)
        while greatest[0] > at + seconds:
            greatest.popleft()
        found[at] = values[greatest[0]]
    return found
