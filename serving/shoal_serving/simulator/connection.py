"""The simulator's HTTP/1.1 door: a bare protocol, so that the simulator is never the bottleneck."""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import httptools

from shoal_serving.simulator.exchange import Exchange
from shoal_serving.simulator.faults import Fault, Kind

Headers = dict[bytes, bytes]

_GARBAGE_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n"
    b"content-length: 31\r\n\r\nInvalid HTTP request received.\n"
)
_FLUSH_SECONDS = 0.005
_MOST_PENDING = 16


class Receiver(Protocol):
    """Who answers requests."""

    def connected(self, connection: "Connection") -> Fault | None: ...
    def disconnected(self, connection: "Connection") -> None: ...
    def receive(self, connection: "Connection", method: bytes, url: bytes, headers: Headers, body: bytes) -> None: ...


class Connection(asyncio.Protocol):
    """Parses requests, hands them over one after the other and writes what comes back."""

    __slots__ = (
        "_body",
        "_closes",
        "_headers",
        "_is_deaf",
        "_loop",
        "_parser",
        "_pending",
        "_receiver",
        "_transport",
        "_url",
        "exchange",
        "has_become",
        "idle_since",
        "is_immune",
        "paused",
        "right_mac",
    )

    def __init__(self, receiver: Receiver, loop: asyncio.AbstractEventLoop, is_immune: bool = False) -> None:
        self._receiver = receiver
        self._loop = loop
        self.is_immune = is_immune
        """Came in by the control port: faults of connections pass it by."""
        self._parser = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._url = b""
        self._headers: Headers = {}
        self._body: list[bytes] = []
        self._pending: deque[tuple[bytes, bytes, Headers, bytes, bool]] = deque()
        self._closes = False
        self._is_deaf = False
        self.paused = False
        self.has_become = False
        """Another protocol speaks here now."""
        self.exchange: Exchange | None = None
        self.right_mac = b""
        """The last MAC on this connection that was right."""
        self.idle_since = loop.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        fault = self._receiver.connected(self)
        if fault is None or self.is_immune:
            return
        if fault.kind is Kind.ACCEPT_HANG:
            self._is_deaf = True
        else:
            self.cut(fault.reset)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._receiver.disconnected(self)
        self._pending.clear()
        if self.exchange is not None:
            exchange, self.exchange = self.exchange, None
            exchange.client_left()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        if self.exchange is not None:
            self.exchange.flush()

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            self._transport.pause_reading()  # earlier than this uvloop starts reading all the same
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            if self.has_become:
                return
            self.write(_GARBAGE_ANSWER)
            self.close()
        except httptools.HttpParserError:
            self.write(_GARBAGE_ANSWER)
            self.close()

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = {}
        self._body = []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.setdefault(name.lower(), value)

    def on_headers_complete(self) -> None:
        if b"expect" in self._headers:
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        parts, parser = self._body, self._parser
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        closes = not parser.should_keep_alive()
        if self.exchange is not None or self._pending:
            self._pending.append((parser.get_method(), self._url, self._headers, body, closes))
            if len(self._pending) == _MOST_PENDING:
                self._transport.pause_reading()
            return
        self._closes = closes
        self._receiver.receive(self, parser.get_method(), self._url, self._headers, body)

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def reply(self, data: bytes) -> None:
        """A whole answer that needs no exchange."""
        self._transport.write(data)
        self.answered()

    def answered(self) -> None:
        """The answer is complete; the next request may come."""
        self.exchange = None
        if self._closes:
            self.close()
        elif self._pending:
            self._loop.call_soon(self._take_pending)
        else:
            self.idle_since = self._loop.time()

    def _take_pending(self) -> None:
        if not self._pending or self.exchange is not None or self._transport.is_closing():
            return
        method, url, headers, body, self._closes = self._pending.popleft()
        if len(self._pending) == _MOST_PENDING - 1:
            self._transport.resume_reading()
        self._receiver.receive(self, method, url, headers, body)

    def become(self, make: Callable[[Any], asyncio.Protocol]) -> Any:
        """Another protocol speaks here from now on."""
        self.has_become = True
        protocol = make(self._transport)
        self._transport.set_protocol(protocol)
        self._receiver.disconnected(self)
        return protocol

    @property
    def is_idle(self) -> bool:
        return self.exchange is None and not self._pending

    def close(self) -> None:
        self._transport.close()

    def cut(self, reset: bool) -> None:
        """The connection ends here and now: by RST, or by FIN after what was written."""
        self.exchange = None
        if not reset:
            self._transport.close()
        elif self._transport.get_write_buffer_size():
            self._loop.call_later(_FLUSH_SECONDS, self.cut, True)
        else:
            self._transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            self._transport.abort()
