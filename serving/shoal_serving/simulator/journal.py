"""What arrived, in which order, and what became of it: kept in memory, bounded, for tests to read."""

from collections import deque
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Entry:
    """One request. Times are Unix seconds."""

    order: int
    at: float
    path: bytes
    request_id: bytes
    outcome: str = "running"
    """running, finished, refused, aborted (the client left), failed (by a fault or the engine's death)."""
    status: int = 0
    steps_sent: int = 0
    """Steps of a stream that were handed to the connection; with one choice these are tokens."""
    ended_at: float | None = None
    fault: str = ""

    def as_json(self) -> dict[str, object]:
        return {
            "order": self.order,
            "at": self.at,
            "path": self.path.decode("latin-1"),
            "requestId": self.request_id.decode("latin-1"),
            "outcome": self.outcome,
            "status": self.status,
            "tokensSent": self.steps_sent,
            "endedAt": self.ended_at,
            "fault": self.fault,
        }


class Journal:
    """The latest entries; the oldest give way."""

    def __init__(self, size: int) -> None:
        self._entries: deque[Entry] = deque(maxlen=size)
        self._arrived = 0

    def open(self, at: float, path: bytes, request_id: bytes) -> Entry:
        self._arrived += 1
        entry = Entry(self._arrived, at, path, request_id)
        self._entries.append(entry)
        return entry

    def since(self, order: int) -> list[dict[str, object]]:
        return [entry.as_json() for entry in self._entries if entry.order > order]

    @property
    def arrived(self) -> int:
        return self._arrived

    def clear(self) -> None:
        self._entries.clear()
