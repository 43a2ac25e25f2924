"""The client's side of a realtime session: its handshake is answered, its frames are found, errors are told to it."""

import asyncio
from typing import Any, Protocol

from shoal_serving import websocket
from shoal_serving.gateway import errors, realtime_events
from shoal_serving.gateway.errors import Refusal
from shoal_serving.gateway.keys import CHALLENGE
from shoal_serving.gateway.realtime_events import Handshake
from shoal_serving.gateway.surfaces import Dialect


class Owner(Protocol):
    """The session. It hears nothing any more after `end`."""

    def from_client(self, frame: websocket.Frame) -> None:
        """A frame, or a piece of one."""

    def client_senseless(self, because: str) -> None:
        """What came is no frame."""

    def client_gone(self) -> None:
        """The connection ended."""

    def client_slow(self) -> None:
        """It does not keep up."""

    def client_ready(self) -> None:
        """It does again."""


class ClientSide(asyncio.Protocol):
    """One connection that asked for a WebSocket; `accept` makes it one, `refuse` answers it either way."""

    def __init__(self, owner: Owner, transport: asyncio.Transport, connections: set[Any], request_id: bytes) -> None:
        self.is_accepted = False
        self._owner: Owner | None = owner
        self.transport = transport
        self._connections = connections
        self._request_id = request_id
        self._frames = websocket.Splitter()
        connections.add(self)

    def address(self) -> str:
        """From where it connects."""
        peer = self.transport.get_extra_info("peername")
        return str(peer[0]) if peer else ""

    def accept(self, handshake: Handshake, model_line: bytes) -> None:
        """Frames pass from here on."""
        if not self.is_accepted:
            self.is_accepted = True
            self.write(handshake.answer(b"x-request-id: %b\r\n%b" % (self._request_id, model_line)))

    def write(self, raw: bytes) -> None:
        """Frames as the replica sent them."""
        self.transport.write(raw)

    def say(self, payload: bytes) -> None:
        """An event of our own."""
        self.write(websocket.frame(websocket.TEXT, payload))

    def say_error(self, refusal: Refusal, code: int) -> None:
        """As an event, and then the end."""
        self.say(realtime_events.error(refusal.message, refusal.code))
        self.write(websocket.close_frame(code, refusal.code or ""))

    def refuse(self, refusal: Refusal) -> None:
        """No session: an ordinary answer."""
        body = errors.body(refusal, Dialect.OPENAI)
        lines = b"content-type: application/json\r\n" + errors.retry_headers(refusal)
        lines += b"x-request-id: %b\r\nconnection: close\r\n" % self._request_id
        if refusal.status == 401:
            lines += CHALLENGE
        head = b"HTTP/1.1 %d Refused\r\n%bcontent-length: %d\r\n\r\n"
        self.write(head % (refusal.status, lines, len(body)) + body)

    def pause(self) -> None:
        """The replica is slow, or not found yet."""
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume(self) -> None:
        """It caught up."""
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def end(self) -> None:
        """The session is over."""
        self._owner = None
        if not self.transport.is_closing():
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        if self._owner is None:
            return
        try:
            frames = self._frames.feed(data)
        except websocket.BadFrame as bad:
            self._owner.client_senseless(str(bad))
            return
        for frame in frames:
            if self._owner is not None:
                self._owner.from_client(frame)

    def pause_writing(self) -> None:
        if self._owner is not None:
            self._owner.client_slow()

    def resume_writing(self) -> None:
        if self._owner is not None:
            self._owner.client_ready()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._connections.discard(self)
        if self._owner is not None:
            self._owner.client_gone()

    def shutdown(self) -> None:
        """Idle connections close; this one is none."""

    def is_through(self) -> bool:
        """Whether the client has taken what was said to it."""
        return not self.transport.get_write_buffer_size()
