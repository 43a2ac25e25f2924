"""Carry what the engine prints to the program at the top: it passes it on and keeps the end, where causes stand."""

import os
from pathlib import Path

PIPE = "engine.log"
KEPT_BYTES = 256 * 1024


def redirect_output(directory: Path) -> None:
    """Send what this process and its children print through the pipe."""
    pipe = os.open(directory / PIPE, os.O_WRONLY)
    os.dup2(pipe, 1)
    os.dup2(pipe, 2)
    os.close(pipe)


class EngineLog:
    """The reading end. Opened for writing as well, so that it never reads as ended."""

    def __init__(self, directory: Path, sink: int) -> None:
        path = directory / PIPE
        path.unlink(missing_ok=True)
        os.mkfifo(path, 0o600)
        self._pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._sink = sink
        self._kept = bytearray()

    def fileno(self) -> int:
        return self._pipe

    def pump(self) -> None:
        """Pass on what has come."""
        while chunk := self._read():
            self._kept += chunk
            del self._kept[:-KEPT_BYTES]
            _write_all(self._sink, chunk)

    def drop(self) -> None:
        """Make room in the pipe, and no more."""
        while self._read():
            pass

    def _read(self) -> bytes:
        try:
            return os.read(self._pipe, 65_536)
        except BlockingIOError:
            return b""

    def text(self) -> str:
        return self._kept.decode(errors="replace")


def _write_all(sink: int, data: bytes) -> None:
    while data:
        data = data[os.write(sink, data) :]
