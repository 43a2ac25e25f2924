"""The door to clients: HTTP/1.1 on a raw connection, where inference requests are answered as they come."""

import asyncio
import socket
from collections import deque
from collections.abc import Iterable
from typing import Any, Final

import httptools
from uvicorn.config import Config

from shoal_serving.gateway import errors, headers
from shoal_serving.gateway.answering import Answering
from shoal_serving.gateway.checking import Checked, check
from shoal_serving.gateway.errors import Refusal
from shoal_serving.gateway.exchange import Exchange
from shoal_serving.gateway.handover import BadTarget, Handover
from shoal_serving.gateway.incoming import Incoming, path_of, target_of
from shoal_serving.gateway.intake import Intake
from shoal_serving.gateway.keys import CHALLENGE
from shoal_serving.gateway.realtime import Session
from shoal_serving.gateway.realtime_events import wants_websocket
from shoal_serving.gateway.surfaces import REALTIME_PATH, Dialect
from shoal_serving.gateway.switchboard import Switchboard

BUILD: Final = "interpreted" if __file__.endswith(".py") else "compiled"
"""How this module runs; a wheel that was built without a C compiler is slower, and nothing else tells."""
LINGER_SECONDS = 2.0
QUIET_SECONDS = 75.0
"""A connection on which no request is under way and nothing moves for so long is closed."""
STALLED_SWEEPS = 5
"""Seconds without a byte of a request that has begun to come in: a gateway that stops waits for it no longer."""
_WRITE_BUFFER = 64 * 1024
_QUEUED_MOST = 16
"""So many requests may come before their turn; only behind them a connection is left unread, and its end unseen."""
REALTIME: Final = REALTIME_PATH.encode()


class Clients:
    """The open connections of clients, and what FastAPI does for them."""

    __slots__ = ("connections", "tasks")

    def __init__(self) -> None:
        self.connections: set[Any] = set()
        """Relays, and the clients' sides of the realtime sessions that some of them became."""
        self.tasks: set[asyncio.Task[None]] = set()


class Relay(Answering):
    """One client connection, an asyncio protocol. Requests on it are answered one after the other."""

    __slots__ = (
        "_clients",
        "_config",
        "_exchange",
        "_handover",
        "_intake",
        "_is_busy",
        "_is_client_slow",
        "_is_closing",
        "_is_reading_paused",
        "_owes_leave",
        "_queue",
        "_unsent",
        "quiet_since_sweeps",
    )

    def __init__(self, switchboard: Switchboard, config: Config, clients: Clients) -> None:
        super().__init__(switchboard)
        self.quiet_since_sweeps = 0
        self._unsent = 0
        """Bytes of answers that the client had not taken at the last sweep."""
        self._config = config
        self._clients = clients
        self._intake: Intake | None = Intake(switchboard, self._take, self._tell_to_go_on)
        self._exchange: Exchange | None = None
        self._handover: Handover | None = None
        self._is_busy = False
        self._is_closing = False
        """Nothing that still comes is looked at: an answer went out that ends the connection."""
        self._is_client_slow = False
        self._is_reading_paused = False
        self._owes_leave = False
        """The client asked whether to send a body, before it was that request's turn."""
        self._queue: deque[Incoming] = deque()
        """Came before their turn, or before the client had taken enough of the last answer."""

    # -- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._clients.connections.add(self)
        self.transport = transport
        transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        raw: socket.socket = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        self._clients.connections.discard(self)
        intake, self._intake = self._intake, None  # it refers to us, too
        if intake is not None:
            intake.close()
        for incoming in self._queue:
            incoming.forget(self.switchboard.budget)
        self._queue.clear()
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
        intake = self._intake
        if self._is_closing or intake is None:
            return
        refusal = intake.feed(data)
        if refusal is not None:
            self._refuse_connection(refusal)

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
        if self._queue and not self._is_busy:
            self._is_busy = True
            asyncio.get_running_loop().call_soon(self._start_queued)

    def shutdown(self) -> None:
        """The gateway stops: idle connections close now, busy ones after their answer."""
        if not self._is_busy and not self._queue and (self._intake is None or self._intake.is_between):
            self.transport.close()

    def is_idle(self) -> bool:
        """Whether no request is being answered, or the connection only waits until its last answer is taken."""
        return not self._is_busy or bool(self.transport.is_closing())

    def swept(self, most: float) -> None:
        """Called again and again while it is idle; ends it where nothing has moved for so many calls."""
        unsent: int = self.transport.get_write_buffer_size()
        if unsent != self._unsent:
            self._unsent = unsent
            self.quiet_since_sweeps = 0
            return
        self.quiet_since_sweeps += 1
        if self.quiet_since_sweeps <= most:
            return
        if unsent:  # a close would wait for a client that takes nothing
            self.transport.abort()
        else:
            self.transport.close()

    def is_through(self) -> bool:
        """Whether nothing is on its way: no request that still comes in, no answer that the client has not taken."""
        if self._queue or self.transport.get_write_buffer_size():
            return False
        comes = not self._is_busy and self._intake is not None and not self._intake.is_between
        return not comes or self.quiet_since_sweeps > STALLED_SWEEPS

    # -- a request came in

    def _take(self, incoming: Incoming) -> None:
        """It is whole or refused: start it, or let it wait for its turn."""
        self._owes_leave = False
        if self._is_closing:
            incoming.forget(self.switchboard.budget)
        elif not self._is_busy and not self._is_client_slow:
            self._start(incoming)
        else:
            self._queue.append(incoming)
            if len(self._queue) >= _QUEUED_MOST and not self._is_reading_paused:
                self._is_reading_paused = True
                self.transport.pause_reading()

    def _tell_to_go_on(self) -> None:
        if self._is_busy or self._queue:
            self._owes_leave = True
        else:
            self._owes_leave = False
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _refuse_connection(self, refusal: Refusal) -> None:
        """What comes is not HTTP: nothing after it can be understood."""
        self._keep_alive = False
        if self._is_busy:
            self._is_closing = True
            return
        self._is_10 = False
        self._is_busy = True
        self.answer(refusal.status, b"content-type: application/json\r\n", errors.body(refusal, Dialect.OPENAI))

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
            incoming.forget(switchboard.budget)
            self._answer_refusal(checked, surface.dialect, b"x-request-id: %b\r\n" % request_id)
            switchboard.count_refused(surface, request_id, incoming.caller, checked, switchboard.clock() - arrived)
            return
        target = target_of(incoming.url)
        self._exchange = exchange = Exchange(switchboard, self, surface, target, checked, incoming.taken, arrived)
        exchange.start()

    def _start_other(self, incoming: Incoming) -> None:
        """Everything that is no inference request is FastAPI's."""
        incoming.uncount(self.switchboard.budget)
        if incoming.method == b"GET" and path_of(incoming.url) == REALTIME and wants_websocket(incoming.headers):
            self._become_session(incoming)
            return
        if incoming.refusal is not None:
            self._answer_refusal(incoming.refusal, Dialect.OPENAI, b"")
            return
        handover = self._handover
        if handover is None:
            self._handover = handover = Handover(self._config, self._clients.tasks, self.transport, self._answered)
            if self._is_client_slow:
                handover.client_slow()
        try:
            handover.start(incoming, self._keep_alive and not self.switchboard.is_draining)
        except BadTarget:
            self._is_busy = False
            self._refuse_connection(Refusal(400, "The target of the request is not valid.", "invalid_http"))

    def _become_session(self, incoming: Incoming) -> None:
        """A WebSocket: the connection is another protocol's from here on."""
        self._is_closing = True
        self._clients.connections.discard(self)
        session = Session(self.switchboard, self.transport, self._clients.connections)
        self.transport.set_protocol(session.client)
        session.begin(httptools.parse_url(incoming.url).query or b"", incoming.headers)

    def _answer_refusal(self, refusal: Refusal, dialect: Dialect, lines: bytes) -> None:
        lines += b"content-type: application/json\r\n" + errors.retry_headers(refusal)
        if refusal.status == 401:
            lines += CHALLENGE
        self.answer(refusal.status, lines, errors.body(refusal, dialect))

    # -- after an answer

    def cut(self) -> None:
        """Close the connection in the middle of an answer."""
        self._is_closing = True
        self._exchange = None
        self.transport.abort()

    def address(self) -> str:
        """From where the client connects."""
        peer = self.transport.get_extra_info("peername")
        return str(peer[0]) if peer else ""

    def _answered(self) -> None:
        self._exchange = None
        self.quiet_since_sweeps = 0
        transport = self.transport
        if transport.is_closing():
            return
        if not self._keep_alive:
            self._linger()
        elif self._queue and not self._is_client_slow:
            # Still busy: the next one starts when this call is through.
            asyncio.get_running_loop().call_soon(self._start_queued)
        else:
            self._is_busy = False
            if self._owes_leave:
                self._tell_to_go_on()

    def _start_queued(self) -> None:
        if self._queue and not self.transport.is_closing():
            incoming = self._queue.popleft()
            self._resume_reading()
            self._start(incoming)

    def _resume_reading(self) -> None:
        if self._is_reading_paused:
            self._is_reading_paused = False
            self.transport.resume_reading()

    def _linger(self) -> None:
        """Say that nothing more comes, and let the client read: a close with unread bytes would be a reset."""
        self._is_closing = True
        self._resume_reading()
        if not self._queue and (self._intake is None or self._intake.is_between):
            self.transport.close()
            return
        self.transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self.transport.close)


def sweep(connections: Iterable[Any], seconds: float) -> None:
    """Close connections that are quiet too long; called every `seconds`."""
    most = QUIET_SECONDS / seconds
    for connection in list(connections):
        if isinstance(connection, Relay) and connection.is_idle():
            connection.swept(most)
