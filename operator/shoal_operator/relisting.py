"""When everything is listed anew beside the watches: what went while a watch had lost its place is never told."""

import asyncio
from collections.abc import Awaitable, Callable

SETTLE_SECONDS = 2.0
"""After the last object of a list that a watch read anew, everything is listed once more."""
MOST_SECONDS = 600.0
"""And after so long in any case: of a list in which nothing is left a watch says nothing at all."""


class Relisting:
    """Lists again and again, but not often."""

    def __init__(self, list_all: Callable[[], Awaitable[None]]) -> None:
        self._list_all = list_all
        self._asked = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def was_listed(self) -> None:
        """A watch has told an object of a list that it read anew."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(SETTLE_SECONDS, self._asked.set)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                try:
                    async with asyncio.timeout(MOST_SECONDS):
                        await self._asked.wait()
                except TimeoutError:
                    pass
                self._asked.clear()
                await self._list_all()
        finally:
            if self._timer is not None:
                self._timer.cancel()
