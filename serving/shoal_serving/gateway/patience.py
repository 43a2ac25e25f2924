"""Decide until when a waiting request is worth starting: its client may say how long it listens for a first byte."""

import math
import re
from typing import Final

NEVER: Final = math.inf
"""The client did not say when it gives up."""
LEAD_SECONDS: Final = 0.5
LEAD_SHARE: Final = 0.1
"""So much earlier than the client gives up it is told, half a second at the most: it should still hear it."""
_SECONDS = re.compile(rb"[0-9]{1,9}([.][0-9]{1,18})?")


def read(value: bytes) -> float:
    """The seconds in a header line of OpenAI's or Anthropic's clients; 0 where it is no number of seconds.

    Node's clients cut the fraction off, so that 0 may mean anything below a second: it is not taken at its word.
    """
    return float(value) if _SECONDS.fullmatch(value) else 0.0


def give_up_at(arrived: float, seconds: float, *, is_stream: bool, heartbeat_after: float) -> float:
    """When to end a request that still waits. A heartbeat before that begins the client's time anew, every time."""
    if seconds == 0.0 or (is_stream and 0.0 < heartbeat_after < seconds):
        return NEVER
    return arrived + seconds - min(LEAD_SECONDS, seconds * LEAD_SHARE)
