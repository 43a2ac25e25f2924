"""Wait for a fact, with a deadline."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

Fact = TypeVar("Fact")

DEADLINE_SECONDS = 120.0
"""A wait ends when its fact comes, so this costs nothing where a machine has enough time for us."""
_PAUSE_SECONDS = 0.02


def until(
    fact: Callable[[], Fact], what: str | Callable[[], str] = "the awaited fact", seconds: float = DEADLINE_SECONDS
) -> Fact:
    """The fact, as soon as it is one."""
    end = time.monotonic() + seconds
    while not (found := fact()):
        assert time.monotonic() < end, f"not within {seconds:g} s: {what if isinstance(what, str) else what()}"
        time.sleep(_PAUSE_SECONDS)
    return found


async def soon(fact: Callable[[], object], seconds: float = DEADLINE_SECONDS) -> None:
    """The same, while the test's own loop goes on; the fact may block for a moment."""
    end = time.monotonic() + seconds
    while not await asyncio.to_thread(fact):
        assert time.monotonic() < end, f"the awaited fact did not come true within {seconds:g} s"
        await asyncio.sleep(_PAUSE_SECONDS)
