"""The door to clients: uvicorn's protocol, except that inference requests are answered on the raw connection."""

import asyncio
import http
import logging
import socket
from collections import deque
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn._types import HTTPScope
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from shoal_serving.gateway import errors, headers
from shoal_serving.gateway.checking import Checked, check
from shoal_serving.gateway.errors import Refusal
from shoal_serving.gateway.exchange import Exchange
from shoal_serving.gateway.keys import ANYBODY, CHALLENGE, Caller, identify
from shoal_serving.gateway.realtime import Session
from shoal_serving.gateway.realtime_events import wants_websocket
from shoal_serving.gateway.surfaces import REALTIME_PATH, SURFACES, Dialect, Surface
from shoal_serving.gateway.switchboard import Switchboard

log = logging.getLogger(__name__)

HEAD_LIMIT = 64 * 1024
OTHER_BODY_LIMIT = 1024 * 1024
LINGER_SECONDS = 2.0
QUIET_SECONDS = 75.0
"""A connection on which no request is under way and nothing comes for so long is closed."""
_WRITE_BUFFER = 64 * 1024
_JOINED_BELOW = 16 * 1024
REALTIME = REALTIME_PATH.encode()
_NOTED = frozenset((b"content-length", b"connection", b"expect"))


def _status_line(status: int) -> bytes:
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


_STATUS_LINES = {status: _status_line(status) for status in range(200, 600)}


class Incoming:
    """A request while it comes in."""

    url = b""
    method = b""
    length: int | None = None
    size = 0
    taken = 0
    """Bytes counted in the budget."""
    has_head = False
    has_connection_header = False
    is_10 = False
    keep_alive = True
    expects_100 = False
    surface: Surface | None = None
    refusal: Refusal | None = None
    caller: Caller = ANYBODY
    form: bytearray | None = None
    """Collects a form: an upload grows in place, joined chunks would lie in memory twice."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.chunks: list[bytes] = []

    def body(self) -> bytes | bytearray:
        """All of it; not kept twice."""
        if self.form is not None:
            return self.form
        chunks, self.chunks = self.chunks, []
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)


_NOTHING = Incoming()
"""Stands for the request that did not begin."""
_NOTHING.has_head = True


class Relay(HttpToolsProtocol):
    """One client connection. Requests on it are answered one after the other."""

    def __init__(self, switchboard: Switchboard, config: Config, server_state: ServerState) -> None:
        super().__init__(config, server_state, {}, asyncio.get_running_loop())
        self.switchboard = switchboard
        self.quiet_since_sweeps = 0
        self._incoming = _NOTHING
        self._exchange: Exchange | None = None
        self._is_busy = False
        self._is_closing = False
        """Nothing that still comes is looked at: an answer went out that ends the connection."""
        self._keep_alive = True
        self._is_chunked = False
        self._is_10 = False
        self._head_size = 0
        self._queue: deque[Incoming] = deque()

    # -- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        raw: socket.socket = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget(self._incoming)
        for incoming in self._queue:
            self._forget(incoming)
        self._queue.clear()
        exchange, self._exchange = self._exchange, None
        super().connection_lost(exc)
        if exchange is not None:
            exchange.client_gone()

    def data_received(self, data: bytes) -> None:
        self.quiet_since_sweeps = 0
        if self._is_closing or self.parser is None:
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return
        except httptools.HttpParserError:
            self._refuse_connection(400, "The request is not valid HTTP.", "invalid_http")
            return
        incoming = self._incoming
        if not incoming.has_head:
            self._head_size += len(data)
            if self._head_size > HEAD_LIMIT:
                self._refuse_connection(431, "The headers of the request are too large.", "headers_too_large")

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._exchange is not None:
            self._exchange.client_slow()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._exchange is not None:
            self._exchange.client_ready()

    def shutdown(self) -> None:
        """The gateway stops: idle connections close now, busy ones after their answer."""
        if not self._is_busy and self._incoming is _NOTHING:
            self.transport.close()

    def is_idle(self) -> bool:
        """Whether no request is being answered."""
        return not self._is_busy

    # -- a request comes in

    def on_message_begin(self) -> None:
        self._incoming = Incoming()
        self._head_size = 0

    def on_url(self, url: bytes) -> None:
        self._incoming.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        incoming = self._incoming
        if incoming.has_head:
            return  # a trailer
        name = name.lower()
        incoming.headers.append((name, value))
        if name in _NOTED:
            if name == b"content-length":
                incoming.length = int(value)
            elif name == b"connection":
                incoming.has_connection_header = True
            else:
                incoming.expects_100 = value.lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        incoming, parser = self._incoming, self.parser
        incoming.has_head = True
        incoming.method = parser.get_method()
        incoming.keep_alive = parser.should_keep_alive() and not parser.should_upgrade()
        if incoming.has_connection_header or not incoming.keep_alive:
            # Without that header only HTTP/1.1 keeps a connection: no need to ask.
            incoming.is_10 = parser.get_http_version() == "1.0"
        most = OTHER_BODY_LIMIT
        if incoming.method == b"POST":
            surface = SURFACES.get(incoming.url)
            if surface is None and not incoming.url.startswith(b"/v1/models"):
                surface = SURFACES.get(_path(incoming.url))
            if surface is not None:
                incoming.surface = surface
                most = self.switchboard.max_body_bytes
                if not self._admit(incoming, surface):
                    return
        if incoming.length is not None:
            if incoming.length > most:
                self._refuse_body(incoming, _too_large(most))
            elif incoming.length and not self.switchboard.budget.take(incoming.length):
                self._refuse_body(incoming, self.switchboard.bytes_full())
            else:
                incoming.taken = incoming.length
        if incoming.expects_100 and incoming.refusal is None and not self._is_busy:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        incoming = self._incoming
        if incoming.refusal is not None:
            return
        if incoming.form is None:
            incoming.chunks.append(body)
        else:
            incoming.form += body
        if incoming.length is not None:
            return
        size = len(body)
        incoming.size += size
        most = self.switchboard.max_body_bytes if incoming.surface else OTHER_BODY_LIMIT
        if incoming.size > most:
            self._refuse_body(incoming, _too_large(most))
        elif not self.switchboard.budget.take(size):
            self._refuse_body(incoming, self.switchboard.bytes_full())
        else:
            incoming.taken += size

    def _admit(self, incoming: Incoming, surface: Surface) -> bool:
        """Whether the caller is known; a request without a right key is refused before its body is read."""
        caller = identify(incoming.headers, self.switchboard.keyring)
        if isinstance(caller, Refusal):
            self._refuse_body(incoming, caller)
            return False
        incoming.caller = caller
        if surface.is_form:
            incoming.form = bytearray()
        return True

    def on_message_complete(self) -> None:
        incoming, self._incoming = self._incoming, _NOTHING
        if incoming.refusal is not None or self._is_closing:
            return
        if self._is_busy:
            self._queue.append(incoming)
            self.flow.pause_reading()
        else:
            self._start(incoming)

    def _refuse_body(self, incoming: Incoming, refusal: Refusal) -> None:
        """The body is not read to its end: answer now (or in turn), and let the connection go."""
        self._forget(incoming)
        incoming.refusal = refusal
        incoming.keep_alive = False
        if self._is_busy:
            self._queue.append(incoming)
        else:
            self._start(incoming)

    def _forget(self, incoming: Incoming) -> None:
        incoming.chunks = []
        incoming.form = None
        self._forget_size(incoming)

    def _forget_size(self, incoming: Incoming) -> None:
        if incoming.taken:
            self.switchboard.budget.give_back(incoming.taken)
            incoming.taken = 0

    def _refuse_connection(self, status: int, message: str, code: str) -> None:
        """What comes is not HTTP: nothing after it can be understood."""
        if self._is_busy:
            self._is_closing = True
            self._keep_alive = False
            return
        self._keep_alive = False
        self._is_10 = False
        body = errors.body(Refusal(status, message, code), Dialect.OPENAI)
        self._is_busy = True
        self.answer(status, b"content-type: application/json\r\n", body)

    # -- it is answered

    def _start(self, incoming: Incoming) -> None:
        self._is_busy = True
        self._is_10 = incoming.is_10
        self._keep_alive = incoming.keep_alive
        surface = incoming.surface
        if surface is None:
            self._start_other(incoming)
            return
        switchboard = self.switchboard
        arrived = switchboard.clock()
        read = headers.of_request(incoming.headers)
        request_id = read.request_id or switchboard.new_request_id()
        checked: Checked | Refusal
        if incoming.refusal is not None:
            checked = incoming.refusal
        else:
            checked = check(switchboard, surface, incoming.caller, read, request_id, incoming.body())
        if isinstance(checked, Refusal):
            self._forget(incoming)
            self._answer_refusal(checked, surface.dialect, b"x-request-id: %b\r\n" % request_id)
            switchboard.count_refused(surface, request_id, incoming.caller, checked, switchboard.clock() - arrived)
            return
        target = incoming.url if incoming.url.startswith(b"/") else _target(incoming.url)
        self._exchange = exchange = Exchange(switchboard, self, surface, target, checked, incoming.taken, arrived)
        exchange.start()

    def _start_other(self, incoming: Incoming) -> None:
        """Not an inference path."""
        self._forget_size(incoming)
        if incoming.method == b"GET" and _path(incoming.url) == REALTIME and wants_websocket(incoming.headers):
            self._become_session(incoming)
        elif incoming.refusal is not None:
            self._answer_refusal(incoming.refusal, Dialect.OPENAI)
        else:
            self._start_app(incoming, incoming.body())

    def _become_session(self, incoming: Incoming) -> None:
        """A WebSocket: the connection is another protocol's from here on."""
        self._is_closing = True
        self.connections.discard(self)
        session = Session(self.switchboard, self.transport, self.connections)
        self.transport.set_protocol(session)
        session.begin(httptools.parse_url(incoming.url).query or b"", incoming.headers)

    def _answer_refusal(self, refusal: Refusal, dialect: Dialect, lines: bytes = b"") -> None:
        lines += b"content-type: application/json\r\n" + errors.retry_headers(refusal)
        if refusal.status == 401:
            lines += CHALLENGE
        self.answer(refusal.status, lines, errors.body(refusal, dialect))

    def _start_app(self, incoming: Incoming, body: bytes | bytearray) -> None:
        """Everything that is no inference request is FastAPI's."""
        try:
            url = httptools.parse_url(incoming.url)
        except httptools.HttpParserInvalidURLError:
            self._is_busy = False
            self._refuse_connection(400, "The target of the request is not valid.", "invalid_http")
            return
        raw_path = url.path or b"/"
        scope: HTTPScope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.0" if incoming.is_10 else "1.1",
            "method": incoming.method.decode("ascii"),
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme or "http",
            "root_path": "",
            "path": unquote(raw_path.decode("latin-1")),
            "raw_path": raw_path,
            "query_string": url.query or b"",
            "headers": incoming.headers,
            "state": {},
        }
        self.cycle = RequestResponseCycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=[],
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=self._keep_alive and not self.switchboard.is_draining,
            on_response=self.on_response_complete,
        )
        self.cycle.body = bytearray(body)
        self.cycle.more_body = False
        self.cycle.message_event.set()
        self._start_asgi_task(self.cycle, self.app)

    def on_response_complete(self) -> None:
        """FastAPI's answer is written."""
        self._next()

    # -- what an exchange may do with its client

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
        self._next()

    def begin(self, status: int, lines: bytes, length: int | None, data: bytes) -> None:
        """The head of an answer, and its first bytes."""
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
        self.transport.write(b"%b%b\r\n%b" % (_STATUS_LINES[status], lines, data))

    def more(self, data: bytes) -> None:
        """Further bytes."""
        self.transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)

    def end(self, data: bytes = b"", *, close: bool = False) -> None:
        """The last bytes."""
        if close:
            self._keep_alive = False
        if self._is_chunked:
            framed = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            self.transport.write(framed + b"0\r\n\r\n")
        elif data:
            self.transport.write(data)
        self._next()

    def cut(self) -> None:
        """Close the connection in the middle of an answer."""
        self._is_closing = True
        self._exchange = None
        self.transport.abort()

    def _next(self) -> None:
        """The answer is written: go on with the next request, or close."""
        self._exchange = None
        self.quiet_since_sweeps = 0
        transport = self.transport
        if transport.is_closing():
            return
        if not self._keep_alive:
            self._linger()
        elif self._queue:
            # Still busy: the next one starts when this call is through.
            self.loop.call_soon(self._start_queued)
        else:
            self._is_busy = False
            if self.flow.read_paused:
                self.flow.resume_reading()

    def _start_queued(self) -> None:
        if self._queue and not self.transport.is_closing():
            self._start(self._queue.popleft())

    def _linger(self) -> None:
        """Say that nothing more comes, and let the client read: a close with unread bytes would be a reset."""
        self._is_closing = True
        self.flow.resume_reading()
        if self._incoming is _NOTHING and not self._queue:
            self.transport.close()
            return
        self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)


def sweep(connections: Any, seconds: float) -> None:
    """Close connections that are quiet too long; called every `seconds`."""
    most = QUIET_SECONDS / seconds
    for connection in list(connections):
        if isinstance(connection, Relay) and connection.is_idle():
            connection.quiet_since_sweeps += 1
            if connection.quiet_since_sweeps > most:
                connection.transport.close()


def _path(url: bytes) -> bytes:
    try:
        return httptools.parse_url(url).path or b""
    except httptools.HttpParserInvalidURLError:
        return b""


def _target(url: bytes) -> bytes:
    """Path and query of an absolute URL."""
    parsed = httptools.parse_url(url)
    return (parsed.path or b"/") + (b"?" + parsed.query if parsed.query else b"")


def _too_large(most: int) -> Refusal:
    return Refusal(413, f"The body of the request is larger than {most} bytes.", "request_too_large")
