"""The access log: one line per request to an inference path, written in batches; no prompt and no key is ever in it."""

import logging
import sys
from collections.abc import Callable
from typing import TextIO

log = logging.getLogger(__name__)


class AccessLog:
    """Collects lines and writes them together: a write per request would cost more than the request."""

    __slots__ = ("_is_lost", "_lines", "_out", "_wall_clock", "is_on")

    def __init__(self, wall_clock: Callable[[], str], out: TextIO | None = sys.stdout) -> None:
        self._lines: list[str] = []
        self._out = out
        self.is_on = out is not None
        self._wall_clock = wall_clock
        self._is_lost = False

    def note(
        self,
        request: bytes,
        key: str,
        model: str,
        route: str,
        outcome: str,
        status: int,
        attempts: int,
        queue_seconds: float,
        first_byte_seconds: float,
        duration_seconds: float,
        sent: int,
    ) -> None:
        """A request ended. `key` is the name of the key that it came with, as it stands in the keys file."""
        if self.is_on:
            self._lines.append(
                f"request={request.decode('ascii')} key={key or '-'} model={model or '-'} route={route}"
                f" outcome={outcome} status={status} attempts={attempts} queue_ms={queue_seconds * 1000:.1f}"
                f" first_byte_ms={first_byte_seconds * 1000:.1f} duration_ms={duration_seconds * 1000:.1f}"
                f" bytes={sent}\n"
            )

    def flush(self) -> None:
        """Write what was collected; each line with the time of the batch. What cannot be written is lost."""
        if self._lines and self._out is not None:
            stamp = f"time={self._wall_clock()} "
            try:
                self._out.write(stamp + stamp.join(self._lines))
                self._out.flush()
                self._is_lost = False
            except OSError as error:
                # Whoever calls has time-outs to keep, which must not end with the room on a disk.
                if not self._is_lost:
                    log.warning("reason=AccessLogLost because=it cannot be written (%s)", error.strerror)
                self._is_lost = True
            self._lines.clear()
