"""The half of a client connection that answers: HTTP/1.1 heads and chunks, in as few writes as can be."""

import http
from abc import abstractmethod
from typing import Any

from shoal_serving.gateway.reply import Client
from shoal_serving.gateway.switchboard import Switchboard

_JOINED_BELOW = 16 * 1024


def _status_line(status: int) -> bytes:
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


_STATUS_LINES = {status: _status_line(status) for status in range(200, 600)}


class Answering(Client):
    """Writes one answer after the other. `_keep_alive` and `_is_10` are those of the request that is answered."""

    __slots__ = ("_corked", "_is_10", "_is_chunked", "_keep_alive", "switchboard", "transport")

    def __init__(self, switchboard: Switchboard) -> None:
        self.switchboard = switchboard
        self.transport: Any = None
        """An asyncio.Transport from `connection_made` on."""
        self._keep_alive = True
        self._is_chunked = False
        self._is_10 = False
        self._corked = b""
        """Written and not sent yet."""

    @abstractmethod
    def _answered(self) -> None:
        """The answer is written: the next request may come, or the connection closes."""

    def answer(self, status: int, lines: bytes, body: bytes) -> None:
        """A whole answer."""
        if self.switchboard.is_draining:
            self._keep_alive = False
        head = b"%b%bcontent-length: %d\r\n%b\r\n" % (
            _STATUS_LINES[status],
            lines,
            len(body),
            b"" if self._keep_alive else b"connection: close\r\n",
        )
        if len(body) < _JOINED_BELOW:
            self.transport.write(head + body)
        else:
            self.transport.writelines([head, body])
        self._answered()

    def begin(self, status: int, lines: bytes, length: int | None, data: bytes, follows: bool) -> None:
        """The head of an answer, and its first bytes. `follows`: they wait for what comes in the same breath."""
        self._is_chunked = length is None and not self._is_10
        if self._is_chunked:
            lines += b"transfer-encoding: chunked\r\n"
            data = b"%x\r\n%b\r\n" % (len(data), data)
        elif length is not None:
            lines += b"content-length: %d\r\n" % length
        else:
            self._keep_alive = False
        if not self._keep_alive or self.switchboard.is_draining:
            self._keep_alive = False
            lines += b"connection: close\r\n"
        self._write(b"%b%b\r\n%b" % (_STATUS_LINES[status], lines, data), follows)

    def more(self, data: bytes, follows: bool) -> None:
        """Further bytes."""
        self._write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data, follows)

    def end(self, data: bytes = b"", *, close: bool = False) -> None:
        """The last bytes."""
        if close:
            self._keep_alive = False
        if self._is_chunked:
            framed = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            self._write(framed + b"0\r\n\r\n", False)
        elif data or self._corked:
            self._write(data, False)
        self._answered()

    def _write(self, data: bytes, follows: bool) -> None:
        """Each write is a system call: what comes in one breath goes out in one."""
        if self._corked:
            data = self._corked + data
        if follows:
            self._corked = data
        else:
            self._corked = b""
            self.transport.write(data)
