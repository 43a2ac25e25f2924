"""The replica's side of a realtime session: our handshake with it, then its frames."""

import asyncio
import base64
import secrets
from typing import Protocol

from shoal_serving import websocket
from shoal_serving.gateway.surfaces import REALTIME_PATH
from shoal_serving.gateway.upstream import HEAD_LIMIT, Connection


class Owner(Protocol):
    """The session. A try ends in one call of `engine_refused` or `engine_lost`."""

    def engine_agreed(self) -> None:
        """The replica speaks WebSocket from here on."""

    def engine_refused(self, status: int, is_busy: bool, body: bytes) -> None:
        """It answered with something else."""

    def engine_lost(self, was_open: bool) -> None:
        """The connection ended."""

    def from_engine(self, frame: websocket.Frame) -> None:
        """A frame, or a piece of one."""

    def engine_slow(self) -> None:
        """It does not keep up."""

    def engine_ready(self) -> None:
        """It does again."""


class EngineSide(asyncio.Protocol):
    """One connection that proved who is at its other end, and speaks frames after the handshake."""

    def __init__(self, owner: Owner, request_id: bytes, limit: int) -> None:
        self.is_open = False
        self.swallows_first = False
        """The engine's `session.created` is dropped: the client has ours."""
        self._owner: Owner | None = owner
        self._request_id = request_id
        self._limit = limit
        self._key = base64.b64encode(secrets.token_bytes(16))
        self._head = b""
        self._frames = websocket.Splitter()
        self._transport: asyncio.Transport | None = None

    @property
    def is_inside_large(self) -> bool:
        """Whether the client has got a part of a frame, and not its end."""
        return self._frames.is_inside_large

    def begin(self, connection: Connection) -> None:
        """Ask for a WebSocket."""
        self._transport, proof_lines = connection.become(self)
        self._transport.write(
            b"GET %b HTTP/1.1\r\n%bx-shoal-limit: %d\r\nx-request-id: %b\r\n"
            b"upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: %b\r\n\r\n"
            % (REALTIME_PATH.encode(), proof_lines, self._limit, self._request_id, self._key)
        )

    def send(self, payload: bytes) -> None:
        """An event of our own."""
        self.write(websocket.frame(websocket.TEXT, payload, secrets.token_bytes(4)))

    def write(self, raw: bytes) -> None:
        """Frames as the client sent them."""
        if self._transport is not None:
            self._transport.write(raw)

    def abort(self) -> None:
        """The session is over: the engine's work, too."""
        self._owner = None
        if self._transport is not None:
            # Closing, not aborting: what was written last may be the client's goodbye.
            self._transport.close()

    def pause(self) -> None:
        """The client is slow."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """It caught up."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        if self._owner is not None:
            self._owner.engine_slow()

    def resume_writing(self) -> None:
        if self._owner is not None:
            self._owner.engine_ready()

    def data_received(self, data: bytes) -> None:
        if self._owner is None:
            return
        if self.is_open:
            self._pass_on(data)
            return
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end < 0 and len(self._head) <= HEAD_LIMIT:
            return
        status, lines = _parsed(self._head[: max(end, 0)])
        if status != 101:
            self._refused(status, lines, self._head[end + 4 :])
        elif lines.get(b"sec-websocket-accept") != websocket.accept_key(self._key):
            self._lose()
        else:
            rest, self._head = self._head[end + 4 :], b""
            self.is_open = True
            self._owner.engine_agreed()
            if rest:
                self._pass_on(rest)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.engine_lost(self.is_open)

    def _refused(self, status: int, lines: dict[bytes, bytes], body: bytes) -> None:
        """Wait for the whole of a small answer: it says why."""
        length = lines.get(b"content-length", b"0")
        wanted = int(length) if length.isdigit() else 0
        if len(body) < min(wanted, HEAD_LIMIT):
            return
        owner = self._owner
        self.abort()
        if owner is not None:
            owner.engine_refused(status, b"x-shoal-busy" in lines, body[:wanted])

    def _pass_on(self, data: bytes) -> None:
        try:
            frames = self._frames.feed(data)
        except websocket.BadFrame:
            self._lose()
            return
        for frame in frames:
            if self.swallows_first and frame.is_whole_text:
                self.swallows_first = False
            elif self._owner is not None:
                self._owner.from_engine(frame)

    def _lose(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _parsed(head: bytes) -> tuple[int, dict[bytes, bytes]]:
    """Status and header lines; 502 where it is no HTTP."""
    first, *lines = head.split(b"\r\n")
    words = first.split(b" ", 2)
    status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 502
    pairs = (line.partition(b":") for line in lines)
    return status, {name.strip().lower(): value.strip() for name, _, value in pairs}
