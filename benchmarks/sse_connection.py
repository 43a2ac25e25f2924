"""One connection of the stream client: it writes a request, takes the time of every event and tells how it ended."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Protocol, cast

import httptools


@dataclass(slots=True)
class Exchange:
    """One request and when its parts came, by the monotonic clock."""

    intended: float
    taken_up: float = 0.0
    """When the client came to it; what comes later is the server's doing."""
    first: float = 0.0
    seen: list[float] = field(default_factory=list)


class Owner(Protocol):
    """Whom a connection belongs to."""

    request: bytes
    idle: "list[Connection]"

    def completed(self, exchange: Exchange, now: float, streams: bool) -> None: ...
    def failed(self, kind: str) -> None: ...


class Connection(asyncio.Protocol):
    """One keep-alive connection; it carries one exchange at a time."""

    def __init__(self, client: Owner) -> None:
        self._client = client
        self._transport = asyncio.WriteTransport()  # until the real one is there
        self._parser = httptools.HttpResponseParser(self)
        self._exchange: Exchange | None = None
        self._now = 0.0
        self._tail = b""
        self._streams = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's own class is none of asyncio's

    def carry(self, exchange: Exchange) -> None:
        self._exchange, self._tail, self._streams = exchange, b"", False
        self._transport.write(self._client.request)

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        """At once, whatever is still on its way."""
        self._exchange = None
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._now = time.monotonic()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail("not http")
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        if value.startswith(b"text/event-stream") and name.lower() == b"content-type":
            self._streams = True

    def on_body(self, body: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        if not exchange.first:
            exchange.first = self._now
        data = self._tail + body
        ended = data.count(b"\n\n")
        if ended:
            exchange.seen += [self._now] * ended
            cut = data.rfind(b"\n\n") + 2
            # Enough of the last whole event to tell how the stream ended, then what is not whole yet.
            self._tail = data[max(0, cut - 16) : cut].replace(b"\n\n", b"\x00\x00") + data[cut:]
        else:
            self._tail = data

    def on_message_complete(self) -> None:
        exchange, self._exchange = self._exchange, None
        status = self._parser.get_status_code()
        keeps, self._parser = self._parser.should_keep_alive(), httptools.HttpResponseParser(self)
        if exchange is not None:
            if status != 200:
                self._client.failed(f"status {status}")
            elif self._streams and not self._tail.endswith(b"data: [DONE]\x00\x00"):
                self._client.failed("no [DONE]")
            else:
                self._client.completed(exchange, self._now, self._streams)
        if keeps:
            self._client.idle.append(self)
        else:
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        if self in self._client.idle:
            self._client.idle.remove(self)
        self._fail("reset" if error else "closed")

    def _fail(self, kind: str) -> None:
        if self._exchange is not None:
            self._exchange = None
            self._client.failed(kind)
