"""The door to clients: HTTP/1.1 on a raw connection, where inference requests are answered as they come."""

import asyncio
import http
import socket
from collections import deque
from collections.abc import Iterable
from typing import Any, Final

import httptools
from uvicorn.config import Config

from shoal_serving.gateway import errors, headers
from shoal_serving.gateway.checking import Checked, check
from shoal_serving.gateway.errors import Refusal
from shoal_serving.gateway.exchange import Exchange
from shoal_serving.gateway.handover import BadTarget, Handover
from shoal_serving.gateway.incoming import Incoming, path_of, surface_of, target_of
from shoal_serving.gateway.keys import CHALLENGE, identify
from shoal_serving.gateway.realtime import Session
from shoal_serving.gateway.realtime_events import wants_websocket
from shoal_serving.gateway.reply import Client
from shoal_serving.gateway.surfaces import REALTIME_PATH, Dialect, Surface
from shoal_serving.gateway.switchboard import Switchboard

BUILD: Final = "interpreted" if __file__.endswith(".py") else "compiled"
"""How this module runs; a wheel that was built without a C compiler is slower, and nothing else tells."""
HEAD_LIMIT = 64 * 1024
OTHER_BODY_LIMIT = 1024 * 1024
LINGER_SECONDS = 2.0
QUIET_SECONDS = 75.0
"""A connection on which no request is under way and nothing comes for so long is closed."""
_WRITE_BUFFER = 64 * 1024
_JOINED_BELOW = 16 * 1024
REALTIME: Final = REALTIME_PATH.encode()


def _status_line(status: int) -> bytes:
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


_STATUS_LINES = {status: _status_line(status) for status in range(200, 600)}

_NOTHING = Incoming()
"""Stands for the request that did not begin."""
_NOTHING.has_head = True


class Clients:
    """The open connections of clients, and what FastAPI does for them."""

    __slots__ = ("connections", "tasks")

    def __init__(self) -> None:
        self.connections: set[Any] = set()
        """Relays, and the realtime sessions that some of them became."""
        self.tasks: set[asyncio.Task[None]] = set()


class Relay(Client):
    """One client connection, an asyncio protocol. Requests on it are answered one after the other."""

    __slots__ = (
        "_clients",
        "_config",
        "_corked",
        "_exchange",
        "_handover",
        "_head_size",
        "_incoming",
        "_is_10",
        "_is_busy",
        "_is_chunked",
        "_is_client_slow",
        "_is_closing",
        "_is_reading_paused",
        "_keep_alive",
        "_parser",
        "_queue",
        "quiet_since_sweeps",
        "switchboard",
        "transport",
    )

    def __init__(self, switchboard: Switchboard, config: Config, clients: Clients) -> None:
        self.switchboard = switchboard
        self.transport: Any = None
        """An asyncio.Transport from `connection_made` on."""
        self.quiet_since_sweeps = 0
        self._config = config
        self._clients = clients
        self._parser: Any = httptools.HttpRequestParser(self)
        # So that a request that came behind one that ends the connection breaks nothing before its turn.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._incoming = _NOTHING
        self._exchange: Exchange | None = None
        self._handover: Handover | None = None
        self._is_busy = False
        self._is_closing = False
        """Nothing that still comes is looked at: an answer went out that ends the connection."""
        self._is_client_slow = False
        self._is_reading_paused = False
        self._keep_alive = True
        self._is_chunked = False
        self._is_10 = False
        self._head_size = 0
        self._corked = b""
        """Written and not sent yet."""
        self._queue: deque[Incoming] = deque()

    # -- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._clients.connections.add(self)
        self.transport = transport
        transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        raw: socket.socket = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        self._clients.connections.discard(self)
        self._forget(self._incoming)
        for incoming in self._queue:
            self._forget(incoming)
        self._queue.clear()
        self._parser = None  # it refers to us, too
        if self._handover is not None:
            self._handover.client_gone()
        if exc is None:
            self.transport.close()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_gone()

    def eof_received(self) -> None:
        """A client that sends no more gets no more."""

    def data_received(self, data: bytes) -> None:
        self.quiet_since_sweeps = 0
        parser = self._parser
        if self._is_closing or parser is None:
            return
        try:
            parser.feed_data(data)
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
        self._is_client_slow = True
        if self._handover is not None:
            self._handover.client_slow()
        if self._exchange is not None:
            self._exchange.client_slow()

    def resume_writing(self) -> None:
        self._is_client_slow = False
        if self._handover is not None:
            self._handover.client_ready()
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
        if not incoming.has_head:  # what comes later is a trailer
            incoming.header(name, value)

    def on_headers_complete(self) -> None:
        incoming, parser = self._incoming, self._parser
        incoming.has_head = True
        incoming.method = parser.get_method()
        incoming.keep_alive = parser.should_keep_alive() and not parser.should_upgrade()
        if incoming.has_connection_header or not incoming.keep_alive:
            # Without that header only HTTP/1.1 keeps a connection: no need to ask.
            incoming.is_10 = parser.get_http_version() == "1.0"
        most = OTHER_BODY_LIMIT
        if incoming.method == b"POST":
            surface = surface_of(incoming.url)
            if surface is not None:
                incoming.surface = surface
                most = self.switchboard.max_body_bytes
                if not self._admit(incoming, surface):
                    return
        length = incoming.length
        if length > most:
            self._refuse_body(incoming, _too_large(most))
        elif length > 0:
            if self.switchboard.budget.take(length):
                incoming.taken = length
            else:
                self._refuse_body(incoming, self.switchboard.bytes_full())
        if incoming.expects_100 and incoming.refusal is None and not self._is_busy:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        incoming = self._incoming
        if incoming.refusal is not None:
            return
        incoming.more(body)
        if incoming.length >= 0:
            return
        most = self.switchboard.max_body_bytes if incoming.surface is not None else OTHER_BODY_LIMIT
        if incoming.size > most:
            self._refuse_body(incoming, _too_large(most))
        elif not self.switchboard.budget.take(len(body)):
            self._refuse_body(incoming, self.switchboard.bytes_full())
        else:
            incoming.taken += len(body)

    def _admit(self, incoming: Incoming, surface: Surface) -> bool:
        """Whether the caller is known; a request without a right key is refused before its body is read."""
        caller = identify(incoming.headers, self.switchboard.keyring)
        if isinstance(caller, Refusal):
            self._refuse_body(incoming, caller)
            return False
        incoming.caller = caller
        if surface.is_form:
            incoming.is_form()
        return True

    def on_message_complete(self) -> None:
        incoming, self._incoming = self._incoming, _NOTHING
        if incoming.refusal is not None or self._is_closing:
            return
        if self._is_busy:
            self._queue.append(incoming)
            if not self._is_reading_paused:
                self._is_reading_paused = True
                self.transport.pause_reading()
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
        incoming.forget()
        self._forget_size(incoming)

    def _forget_size(self, incoming: Incoming) -> None:
        if incoming.taken:
            self.switchboard.budget.give_back(incoming.taken)
            incoming.taken = 0

    def _refuse_connection(self, status: int, message: str, code: str) -> None:
        """What comes is not HTTP: nothing after it can be understood."""
        self._keep_alive = False
        if self._is_busy:
            self._is_closing = True
            return
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
        target = target_of(incoming.url)
        self._exchange = exchange = Exchange(switchboard, self, surface, target, checked, incoming.taken, arrived)
        exchange.start()

    def _start_other(self, incoming: Incoming) -> None:
        """Everything that is no inference request is FastAPI's."""
        self._forget_size(incoming)
        if incoming.method == b"GET" and path_of(incoming.url) == REALTIME and wants_websocket(incoming.headers):
            self._become_session(incoming)
            return
        if incoming.refusal is not None:
            self._answer_refusal(incoming.refusal, Dialect.OPENAI, b"")
            return
        handover = self._handover
        if handover is None:
            self._handover = handover = Handover(self._config, self._clients.tasks, self.transport, self._next)
            if self._is_client_slow:
                handover.client_slow()
        try:
            handover.start(incoming, self._keep_alive and not self.switchboard.is_draining)
        except BadTarget:
            self._is_busy = False
            self._refuse_connection(400, "The target of the request is not valid.", "invalid_http")

    def _become_session(self, incoming: Incoming) -> None:
        """A WebSocket: the connection is another protocol's from here on."""
        self._is_closing = True
        self._clients.connections.discard(self)
        session = Session(self.switchboard, self.transport, self._clients.connections)
        self.transport.set_protocol(session)
        session.begin(httptools.parse_url(incoming.url).query or b"", incoming.headers)

    def _answer_refusal(self, refusal: Refusal, dialect: Dialect, lines: bytes) -> None:
        lines += b"content-type: application/json\r\n" + errors.retry_headers(refusal)
        if refusal.status == 401:
            lines += CHALLENGE
        self.answer(refusal.status, lines, errors.body(refusal, dialect))

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
        self._next()

    def _write(self, data: bytes, follows: bool) -> None:
        """Each write is a system call: what comes in one breath goes out in one."""
        if self._corked:
            data = self._corked + data
        if follows:
            self._corked = data
        else:
            self._corked = b""
            self.transport.write(data)

    def cut(self) -> None:
        """Close the connection in the middle of an answer."""
        self._is_closing = True
        self._exchange = None
        self.transport.abort()

    def address(self) -> str:
        """From where the client connects."""
        peer = self.transport.get_extra_info("peername")
        return str(peer[0]) if peer else ""

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
            asyncio.get_running_loop().call_soon(self._start_queued)
        else:
            self._is_busy = False
            self._resume_reading()

    def _start_queued(self) -> None:
        if self._queue and not self.transport.is_closing():
            self._start(self._queue.popleft())

    def _resume_reading(self) -> None:
        if self._is_reading_paused:
            self._is_reading_paused = False
            self.transport.resume_reading()

    def _linger(self) -> None:
        """Say that nothing more comes, and let the client read: a close with unread bytes would be a reset."""
        self._is_closing = True
        self._resume_reading()
        if self._incoming is _NOTHING and not self._queue:
            self.transport.close()
            return
        self.transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self.transport.close)


def sweep(connections: Iterable[Any], seconds: float) -> None:
    """Close connections that are quiet too long; called every `seconds`."""
    most = QUIET_SECONDS / seconds
    for connection in list(connections):
        if isinstance(connection, Relay) and connection.is_idle():
            connection.quiet_since_sweeps += 1
            if connection.quiet_since_sweeps > most:
                connection.transport.close()


def _too_large(most: int) -> Refusal:
    return Refusal(413, f"The body of the request is larger than {most} bytes.", "request_too_large")
