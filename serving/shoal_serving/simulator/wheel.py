"""One timer for all that is due in the same millisecond."""

import asyncio
import heapq
from collections.abc import Callable
from math import ceil
from typing import Generic, TypeVar

Item = TypeVar("Item")

_ROUNDING = 1e-6
"""Sums of seconds end a little above the millisecond that is meant."""


class Wheel(Generic[Item]):
    """Hands items to `due` at their time, many with one turn of the loop. Times are those of `clock`."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float], due: Callable[[Item], None]
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._due = due
        self._slots: dict[int, list[Item]] = {}
        self._ticks: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = 0

    def add(self, time: float, item: Item) -> None:
        tick = ceil(time * 1000 - _ROUNDING)
        slot = self._slots.get(tick)
        if slot is not None:
            slot.append(item)
            return
        self._slots[tick] = [item]
        heapq.heappush(self._ticks, tick)
        if self._timer is None or tick < self._armed_for:
            self._arm(tick)

    def _arm(self, tick: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = tick
        self._timer = self._loop.call_later(max(0.0, tick / 1000 - self._clock()), self._turn)

    def _turn(self) -> None:
        self._timer = None
        now = int(self._clock() * 1000)
        due = self._due
        while self._ticks and self._ticks[0] <= now:
            for item in self._slots.pop(heapq.heappop(self._ticks)):
                due(item)
        if self._ticks and (self._timer is None or self._ticks[0] < self._armed_for):
            self._arm(self._ticks[0])
