"""The door to replicas: connections that proved who is at their other end, kept for reuse, read as whole reads."""

import asyncio
import hmac
import logging
import secrets
import socket
from collections.abc import Callable
from typing import Any, cast

import httptools

from shoal_api import proof
from shoal_api.routes import Endpoint, ModelRoute
from shoal_serving.gateway import headers
from shoal_serving.gateway.dispatching import EndpointState
from shoal_serving.gateway.multipart import Pieces

log = logging.getLogger(__name__)

IDLE_SECONDS = 4.0
"""vLLM closes a connection that is idle for 5 s; ours goes first."""
HEAD_LIMIT = 64 * 1024
SILENCE_SECONDS = 30
"""A node that lost its power closes nothing: a connection whose other end says nothing for so long, not even to the
kernel's own questions, is lost. An engine that only thinks is not meant: its kernel answers."""
_ASK_AFTER_SECONDS = 10
_ASK_EVERY_SECONDS = 5
_JOINED_BELOW = 16 * 1024

Receiver = Callable[["Connection"], None]


class Unreachable(Exception):
    """No byte of a request went out: nobody listens, or not who is expected."""


class LiveEndpoint(EndpointState):
    """An endpoint with its key and its idle connections."""

    __slots__ = ("_key", "_opening", "host_line", "idle")

    def __init__(self, facts: Endpoint, key: bytes) -> None:
        super().__init__(facts)
        self._key = key
        self._opening: set[asyncio.Task[None]] = set()
        self.idle: list[Connection] = []
        host = f"[{facts.host}]" if ":" in facts.host else facts.host
        self.host_line = f"host: {host}:{facts.port}\r\n".encode()

    def take_idle(self) -> "Connection | None":
        """The connection that was used last, if one is open."""
        while self.idle:
            connection = self.idle.pop()
            if not connection.transport.is_closing():
                connection.reused = True
                # It proved once who it is. Where the replica is out, this is the trial, and nobody else would end it.
                self.reached()
                return connection
        return None

    def open(self, seconds: float, then: Callable[["Connection | Unreachable"], None]) -> None:
        """Make a new connection, with its hello, within `seconds`; `then` gets it or the reason."""
        task = asyncio.get_running_loop().create_task(self._open(seconds, then))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    def close_idle(self, idle_before: float) -> None:
        """Close the connections that were not used since."""
        for connection in [one for one in self.idle if one.idle_since <= idle_before]:
            self.idle.remove(connection)
            connection.transport.close()

    def reached(self) -> None:
        """It proved who it is: in again, also for those who wait."""
        if self.health.is_out:
            self.health.reached()
            self.changed()

    def unreachable(self, now: float, because: str) -> None:
        """Nothing can be sent to it: out for a while, with all its connections."""
        if not self.health.unreachable(now):
            return
        self.changed()
        self.close_idle(float("inf"))
        log.warning(
            "replica=%s reason=Unreachable because=%s; out for %g s",
            self.facts.replica,
            because,
            self.health.out_seconds,
        )

    def retire(self) -> None:
        super().retire()
        self.close_idle(float("inf"))

    async def _open(self, seconds: float, then: "Callable[[Connection | Unreachable], None]") -> None:
        made: list[Connection] = []

        def make() -> asyncio.Protocol:
            # It has the methods of a Protocol and not its class, which would slow it down where it is compiled.
            made.append(Connection(self))
            return cast("asyncio.Protocol", made[0])

        result: Connection | Unreachable
        try:
            async with asyncio.timeout(seconds):
                await asyncio.get_running_loop().create_connection(make, self.facts.host, self.facts.port)
                await made[0].hello(self._key)
            result = made[0]
        except TimeoutError:
            result = Unreachable(f"no connection and hello within {seconds:g} s")
        except OSError as error:
            result = Unreachable(f"no connection: {error.strerror or error}")
        except UnicodeError:
            result = Unreachable(f"no connection: {self.facts.host!r} is no host name")
        except Unreachable as error:
            result = error
        if isinstance(result, Unreachable) and made and made[0].transport is not None:
            made[0].transport.abort()
        then(result)


def notice_silence(raw: socket.socket) -> None:
    """Have the kernel end the connection when the other end's machine has been silent for SILENCE_SECONDS."""
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _ASK_AFTER_SECONDS)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _ASK_EVERY_SECONDS)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, (SILENCE_SECONDS - _ASK_AFTER_SECONDS) // _ASK_EVERY_SECONDS)
    # Without it, what was sent and never acknowledged is sent again for a quarter of an hour.
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_SECONDS * 1000)


class Connection:
    """One connection to one replica, an asyncio protocol; carries one request at a time.

    `receiver` is called after every read that belongs to the request, and when the connection is lost. It finds the
    head in `status`, `lines()` and `header()` once `has_head`, new bytes of the body by `take()`, the end in
    `complete` or `lost`.
    """

    __slots__ = (
        "_head_bytes",
        "_headers",
        "_lines",
        "_parser",
        "_parts",
        "_prefix",
        "complete",
        "endpoint",
        "has_bytes",
        "has_head",
        "idle_since",
        "keep",
        "lost",
        "paused",
        "receiver",
        "reused",
        "status",
        "transport",
    )

    def __init__(self, endpoint: LiveEndpoint) -> None:
        self.endpoint = endpoint
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made, before any use
        self.receiver: Receiver | None = None
        self.reused = False
        self.idle_since = 0.0
        self.lost = False
        self.paused = False
        self.status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._lines: list[bytes] = []
        self.has_bytes = self.has_head = self.complete = self.keep = False
        self._parts: list[bytes] = []
        self._head_bytes = 0
        self._prefix = b""
        self._parser: Any = httptools.HttpResponseParser(self)

    async def hello(self, key: bytes) -> None:
        """Ask who is there; Unreachable unless it is the replica that the route table names."""
        nonce = secrets.token_hex(proof.NONCE_CHARACTERS // 2)
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def receiver(connection: Connection) -> None:
            if (connection.complete or connection.lost) and not answered.done():
                answered.set_result(None)

        head = f"GET {proof.HELLO_PATH} HTTP/1.1\r\n{proof.NONCE_HEADER}: {nonce}\r\n".encode()
        self.send(receiver, [head, self.endpoint.host_line, b"\r\n"], b"")
        await answered
        self.receiver = None
        if self.lost:
            raise Unreachable("the connection was closed during the hello")
        self.take()
        uid = self.endpoint.uid
        given = self.header(proof.PROOF_HEADER.encode())
        if self.status != 200 or not hmac.compare_digest(given, proof.hello_proof(key, nonce, uid).encode()):
            raise Unreachable(f"failed hello (status {self.status}): this is not the expected replica")
        if not self.keep:
            raise Unreachable("the replica closes the connection after the hello")
        self._prefix = (
            self.endpoint.host_line + f"{proof.MAC_HEADER}: {proof.request_mac(key, nonce, uid)}\r\n".encode()
        )

    def request(self, receiver: Receiver, first_line: bytes, lines: bytes, limit: int, body: bytes | Pieces) -> None:
        """Send a request; `lines` are its header lines without host, proof and length."""
        self.send(
            receiver,
            [
                first_line,
                self._prefix,
                b"x-shoal-limit: %d\r\ncontent-length: %d\r\n" % (limit, len(body)),
                lines,
                b"\r\n",
            ],
            body,
        )

    def send(self, receiver: Receiver, head: list[bytes], body: bytes | Pieces) -> None:
        """Send a request as it is; `receiver` gets the answer."""
        self.receiver = receiver
        self._reset()
        if isinstance(body, Pieces):
            self.transport.writelines([b"".join(head), *body.slices])
        elif len(body) < _JOINED_BELOW:
            head.append(body)
            self.transport.write(b"".join(head))
        else:
            self.transport.writelines([b"".join(head), body])

    def take(self) -> bytes:
        """The bytes of the body that came since the last call."""
        parts = self._parts
        if not parts:
            return b""
        self._parts = []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def lines(self) -> bytes:
        """The header lines of the answer that the client sees."""
        return b"".join(self._lines)

    def header(self, name: bytes) -> bytes:
        """The value of a header of the answer that is meant for us, or of `content-type`; empty where it has none."""
        for found, value in self._headers:
            if found == name:
                return value
        return b""

    def hand_back(self, now: float) -> None:
        """The answer is complete: keep the connection for the next request where that is possible."""
        self.receiver = None
        if (
            not self.keep
            or not self.complete
            or self.endpoint.gone
            or self.transport.is_closing()
            or self.transport.get_write_buffer_size()
        ):
            self.transport.close()
            return
        if self.paused:
            self.resume()
        self.idle_since = now
        self.endpoint.idle.append(self)

    def abort(self) -> None:
        """End the request: the replica sees the connection closed, and its engine stops."""
        self.receiver = None
        self.transport.abort()

    def become(self, protocol: asyncio.Protocol) -> tuple[asyncio.Transport, bytes]:
        """Another protocol speaks here from now on; it gets the socket and the header lines that prove who we are."""
        self.receiver = None
        self.transport.set_protocol(protocol)
        return self.transport, self._prefix

    def pause(self) -> None:
        """The client is slow: leave the answer in the socket."""
        if not self.paused and not self.transport.is_closing():
            self.paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """The client caught up."""
        if self.paused and not self.transport.is_closing():
            self.paused = False
            self.transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        raw: socket.socket = transport.get_extra_info("socket")
        notice_silence(raw)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._parser = None  # it refers to us, too
        self.lost = True
        receiver = self.receiver
        if receiver is not None:
            receiver(self)
        elif self in self.endpoint.idle:
            self.endpoint.idle.remove(self)

    def eof_received(self) -> None:
        """A replica that sends no more is asked no more."""

    def pause_writing(self) -> None:
        """The body of a request is bounded: it waits in the buffer."""

    def resume_writing(self) -> None:
        """See above."""

    def data_received(self, data: bytes) -> None:
        parser, receiver = self._parser, self.receiver
        if receiver is None:
            # Nobody asked: an answer to no question must not become the answer to the next one.
            self.transport.close()
            return
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            log.warning("replica=%s because=what it sends is not HTTP: %r", self.endpoint.facts.replica, error)
            self.keep = self.complete = False
            self.transport.abort()
            return
        if not self.complete:
            self.has_bytes = True
            if not self.has_head:
                self._head_bytes += len(data)
                if self._head_bytes > HEAD_LIMIT:
                    log.warning("replica=%s because=the head of its answer is too large", self.endpoint.facts.replica)
                    self.transport.abort()
                    return
        receiver(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Most are only passed on: they become lines again at once."""
        if not self.has_head:
            name = name.lower()
            if headers.travels_back(name):
                self._lines += (name, b": ", value, b"\r\n")
                if name != b"content-type":
                    return
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            self._headers = []
            self._lines = []
            return
        self.status = status
        self.has_head = True

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        if not self.has_head:
            return  # 100 Continue and its like
        if self.complete:
            raise ValueError("a second answer to one request")
        self.keep = self._parser.should_keep_alive()
        self.complete = True

    def _reset(self) -> None:
        self.status = 0
        self._headers = []
        self._lines = []
        self.has_bytes = self.has_head = self.complete = self.keep = False
        self._parts = []
        self._head_bytes = 0


def maker(master_key: bytes) -> Callable[[ModelRoute, Endpoint], LiveEndpoint]:
    """Makes endpoints whose key is derived from the installation's."""

    def make(route: ModelRoute, facts: Endpoint) -> LiveEndpoint:
        return LiveEndpoint(facts, proof.model_key(master_key, route.uid))

    return make
