"""Ports for programs under test: this process holds each, bound but never listened on, so that nobody else is given it.

A port that was only probed goes to whoever asks next, on a busy machine another test. One that is bound does not, and
yet a program that is told its number may listen there, as often as it is started: servers bind with SO_REUSEADDR.
"""

import fcntl
import os
import socket
import tempfile
from collections import deque
from functools import cache
from pathlib import Path

_MOST_HELD = 500
"""A process may have only so many files open; the oldest is let go of long after its test."""
_held: deque[int] = deque()


def a_port(host: str = "127.0.0.1") -> int:
    """A port of this address on which nobody listens, and which nobody else is given."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((host, 0))
        port = int(holder.getsockname()[1])
        _held.append(holder.detach())
    if len(_held) > _MOST_HELD:
        os.close(_held.popleft())
    return port


_RANGE = 50
_BELOW_OUTGOING = range(20000, 30000, _RANGE)


@cache
def own_range() -> range:
    """Ports for a program that draws its own: no other process of tests is given any of them while this one lives."""
    for first in _BELOW_OUTGOING:
        file = Path(tempfile.gettempdir()) / f"shoal-test-ports-{os.getuid()}-{first}"
        lock = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        return range(first, first + _RANGE)
    raise AssertionError("all ranges of ports are taken by other processes of tests")
