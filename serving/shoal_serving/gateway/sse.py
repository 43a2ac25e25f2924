"""Cut a stream of server-sent events at the ends of events, and look into an event; nothing else of it is touched."""

import json
import re
from typing import Any

EVENT_LIMIT = 8 * 1024 * 1024
"""A single event larger than this is no event any more."""

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n|\r\n\n")
_MARKS = (b'{"error"', b"event: error", b"event:error")
_LINE = re.compile(rb"\r\n|\n|\r")


class EventTooLarge(ValueError):
    """An event that does not end within EVENT_LIMIT."""


class Splitter:
    """Takes bytes as they come and gives back whole events only."""

    __slots__ = ("rest",)

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Every event that is whole now, as the bytes it came in."""
        if not self.rest and data.endswith(b"\n\n"):
            return data
        # An end may straddle the seam, but only by the three bytes before it.
        searched = max(len(self.rest) - 3, 0)
        held = self.rest + data
        cut = _last_end(held, searched)
        self.rest = held[cut:]
        if len(self.rest) > EVENT_LIMIT:
            raise EventTooLarge(f"an event is larger than {EVENT_LIMIT} bytes")
        return held[:cut]


def _last_end(held: bytes, searched: int) -> int:
    """The index after the last end of an event at or after `searched`; 0 where there is none."""
    short, long = held.rfind(b"\n\n", searched), held.rfind(b"\n\r\n", searched)
    if short >= 0 or long >= 0:
        return max(short + 2 if short >= 0 else 0, long + 3 if long >= 0 else 0)
    if b"\r" not in held:
        return 0
    cut = 0
    for match in _END.finditer(held, searched):
        # `\r\r` at the very end may be the first half of `\r\r\n`; the next bytes tell.
        if match.group() != b"\r\r" or match.end() < len(held):
            cut = match.end()
    return cut


def split(whole: bytes) -> list[bytes]:
    """The single events of bytes that end with an event."""
    events, start = [], 0
    for match in _END.finditer(whole):
        events.append(whole[start : match.end()])
        start = match.end()
    if start < len(whole):
        events.append(whole[start:])
    return events


def data_of(event: bytes) -> bytes | None:
    """The data of an event; None where it has none (a comment, a bare event name)."""
    lines = [line[5:].removeprefix(b" ") for line in _LINE.split(event) if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None


def error_in(event: bytes) -> Any:
    """What an error event carries, parsed; None where the event is no error.

    An error is an event named `error` (Messages, Responses), or data with an `error` at its top level (chat).
    """
    if b"error" not in event:
        return None
    data = data_of(event)
    if data is None:
        return None
    named = any(line in (b"event: error", b"event:error") for line in _LINE.split(event))
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {"error": data[:1000].decode(errors="replace")} if named else None
    if named:
        return found
    return found if isinstance(found, dict) and found.get("error") is not None and _is_error(found) else None


def may_hold_error(whole: bytes) -> bool:
    """Whether it is worth looking into these events one by one: false for all but a few ordinary ones."""
    return b"error" in whole and any(mark in whole for mark in _MARKS)


def _is_error(found: dict[str, Any]) -> bool:
    """Not a chunk or a response object that also has a field `error`."""
    return "choices" not in found and found.get("object") not in {"response", "chat.completion.chunk"}
