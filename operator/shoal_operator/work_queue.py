"""What has to be looked at: each key once, never by two at a time, now or later."""

import asyncio


class WorkQueue:
    """Keys in order of arrival. A key added while it is worked on comes again after that."""

    def __init__(self) -> None:
        self._ready: asyncio.Queue[str] = asyncio.Queue()
        self._waiting: set[str] = set()
        self._worked_on: dict[str, float] = {}
        self._again: set[str] = set()
        self._later: dict[str, asyncio.TimerHandle] = {}

    def add(self, key: str) -> None:
        """Have it looked at as soon as somebody is free."""
        if key in self._worked_on:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.put_nowait(key)

    def add_later(self, key: str, seconds: float) -> None:
        """Have it looked at after a while; of several times the earliest counts."""
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        known = self._later.get(key)
        if known is not None:
            if known.when() <= due:
                return
            known.cancel()
        self._later[key] = loop.call_at(due, self._due, key)

    def forget(self, key: str) -> None:
        """Nobody waits for it any more."""
        later = self._later.pop(key, None)
        if later is not None:
            later.cancel()

    async def take(self) -> str:
        """The next key; who takes it says `done` in the end."""
        key = await self._ready.get()
        self._waiting.discard(key)
        self._worked_on[key] = asyncio.get_running_loop().time()
        return key

    def done(self, key: str) -> None:
        self._worked_on.pop(key, None)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def close(self) -> None:
        """Drop what was to come later."""
        for later in self._later.values():
            later.cancel()
        self._later.clear()

    @property
    def oldest(self) -> float | None:
        """When the work began that takes longest now, by the loop's clock; None while nothing is worked on."""
        return min(self._worked_on.values(), default=None)

    def __len__(self) -> int:
        return len(self._waiting) + len(self._worked_on)

    def _due(self, key: str) -> None:
        self._later.pop(key, None)
        self.add(key)
