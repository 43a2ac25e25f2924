"""One try of a request at one endpoint: connected, sent, held until the commit, relayed; all in callbacks."""

import logging
from enum import IntEnum
from typing import Any, Protocol

from shoal_api import proof
from shoal_serving.gateway import errors, headers, sse
from shoal_serving.gateway.errors import Refusal
from shoal_serving.gateway.multipart import Pieces
from shoal_serving.gateway.retrying import Happening, of_status
from shoal_serving.gateway.surfaces import Surface
from shoal_serving.gateway.upstream import Connection, LiveEndpoint, Receiver, Unreachable

log = logging.getLogger(__name__)

HELD_ANSWER_LIMIT = 8 * 1024 * 1024
"""An answer larger than this is passed on as it comes."""

_BUSY = proof.BUSY_HEADER.encode()


class Stage(IntEnum):
    """Where an attempt is."""

    CONNECTING = 0
    SENT = 1
    COMMITTED = 2
    OVER = 3


class Owner(Protocol):
    """The request that tries. An attempt ends in one call of `pass_on`, `passed_on`, `ended` or `cut`."""

    surface: Surface

    def clock(self) -> float:
        """Monotonic seconds."""

    def pass_on(self, attempt: "Attempt", lines: bytes, body: bytes) -> None:
        """A complete answer came."""

    def commit(self, attempt: "Attempt", lines: bytes, length: int | None, data: bytes) -> None:
        """The answer begins; from here on it cannot be taken back."""

    def more(self, data: bytes) -> None:
        """Further bytes of a committed answer; whole events where it is a stream."""

    def passed_on(self, attempt: "Attempt") -> None:
        """The committed answer is complete."""

    def ended(self, attempt: "Attempt", happening: Happening, found: Refusal | None = None) -> None:
        """The attempt brought no answer; `found` is what the engine said."""

    def cut(self, attempt: "Attempt", because: str) -> None:
        """The committed answer cannot go on here."""


class Attempt:
    """One try at one endpoint that is reserved for it."""

    # Defaults on the class cost nothing per attempt.
    connection: Connection | None = None
    stage = Stage.CONNECTING
    status = 0
    is_stream = False
    sent_at = 0.0
    first_read_at = 0.0
    last_read_at = 0.0
    _held_size = 0
    _last_block = b""

    def __init__(self, owner: Owner, endpoint: LiveEndpoint, gaps: "Gaps") -> None:
        self.owner = owner
        self.endpoint = endpoint
        self.gaps = gaps
        self._held: list[bytes] = []

    # -- out

    def connect(self, seconds: float, request: "Outgoing") -> None:
        """Make a connection, then send."""
        endpoint = self.endpoint

        def opened(result: Connection | Unreachable) -> None:
            now = self.owner.clock()
            if isinstance(result, Unreachable):
                endpoint.unreachable(now, str(result))
                if self.stage is Stage.CONNECTING:
                    self._end(Happening.UNREACHABLE)
                return
            endpoint.health.reached()
            if self.stage is Stage.CONNECTING:
                self.send(result, request)
            else:
                result.hand_back(now)

        endpoint.open(seconds, opened)

    def send(self, connection: Connection, request: "Outgoing") -> None:
        """Send on a connection that is there."""
        self.stage = Stage.SENT
        self.connection = connection
        self.sent_at = self.last_read_at = self.owner.clock()
        connection.request(self._received, *request)

    # -- in, before the commit

    def _received(self, connection: Connection) -> None:
        """Called for every read before the commit, and when the connection is lost."""
        now = self.last_read_at = self.owner.clock()
        if connection.lost and not connection.complete:
            if connection.has_bytes:
                self._end(Happening.CUT)
            else:
                self._end(Happening.STALE if connection.reused else Happening.CLOSED)
            return
        if not connection.has_head:
            return
        if not self.status:
            self.status = connection.status
            self.first_read_at = now
            if connection.status == 200 and connection.header(b"content-type").startswith(b"text/event-stream"):
                self.is_stream = True
                self._splitter = sse.Splitter()
        if self.is_stream:
            self._hold_stream(connection)
        else:
            self._hold_answer(connection)

    def _hold_answer(self, connection: Connection) -> None:
        data = connection.take()
        if connection.complete:
            if self._held:
                self._held.append(data)
                data = b"".join(self._held)
            if self.status >= 400:
                self._judge_status(connection, data)
                return
            self.endpoint.health.busy_seconds = 0.0
            lines = headers.of_response(connection.headers)
            self._hand_back(connection)
            self.owner.pass_on(self, lines, data)
            return
        self._held_size += len(data)
        if self._held_size <= HELD_ANSWER_LIMIT:
            self._held.append(data)
        elif self.status < 400:
            self._held.append(data)
            length = connection.header(b"content-length")
            self._commit(
                connection, b"".join(self._held), self._pass_on_more, int(length) if length.isdigit() else None
            )

    def _hold_stream(self, connection: Connection) -> None:
        try:
            whole = self._splitter.feed(connection.take())
        except sse.EventTooLarge:
            self.abandon()
            self._end(Happening.CUT)
            return
        if whole.startswith(b"data: ") and b"error" not in whole:
            self._commit(connection, whole, self._relay, None)
            return
        events = sse.split(whole)
        for at, event in enumerate(events):
            if sse.data_of(event) is None:
                continue
            found = sse.error_in(event)
            if found is not None:
                self._judge_first_event(found)
            else:
                self._commit(connection, event, self._relay, None, b"".join(events[at + 1 :]))
            return
        if connection.complete:
            self._hand_back(connection)
            self._end(Happening.CUT)

    def _judge_status(self, connection: Connection, data: bytes) -> None:
        """A complete answer with an error status."""
        is_busy = self.status == 503 and connection.header(_BUSY)
        self._hand_back(connection)
        endpoint, now = self.endpoint, self.last_read_at
        if is_busy:
            endpoint.health.busy(now)
            self._end(Happening.BUSY)
        elif self.status == 421:
            endpoint.unreachable(now, "it did not take our proof: another replica has its address")
            self._end(Happening.UNREACHABLE)
        else:
            endpoint.health.served()
            self._end(of_status(self.status), errors.read(self.status, data, self.owner.surface.dialect))

    def _judge_first_event(self, found: Any) -> None:
        """A 200 whose first event is an error."""
        status = errors.status_of_event(found)
        self.abandon()
        self.endpoint.health.served()
        self._end(of_status(status), errors.of_parsed(status, found, self.owner.surface.dialect))

    # -- in, after the commit

    def _commit(
        self, connection: Connection, data: bytes, receiver: Receiver, length: int | None, further: bytes = b""
    ) -> None:
        """`further`: whole events that came in the same read."""
        self.endpoint.health.served()
        self.stage = Stage.COMMITTED
        self._held = []
        self._last_block = data
        self.first_read_at = self.last_read_at
        connection.receiver = receiver
        self.owner.commit(self, headers.of_response(connection.headers), length, data)
        if further and not self._forward(further):
            return
        if connection.complete and self.stage is Stage.COMMITTED:
            receiver(connection)

    def _relay(self, connection: Connection) -> None:
        """Called for every read of a committed stream: the hot path of tokens."""
        data = connection.take()
        if data:
            splitter = self._splitter
            if splitter.rest or not data.endswith(b"\n\n"):
                try:
                    data = splitter.feed(data)
                except sse.EventTooLarge as error:
                    self._cut(str(error))
                    return
            if data and not self._forward(data):
                return
        if connection.complete:
            self._stream_ended(connection)
        elif connection.lost:
            self._cut("the connection to the replica was lost")

    def _forward(self, data: bytes) -> bool:
        """Pass whole events on; false where the stream is over by that: one of them is an error, or unreadable."""
        if b"error" in data and sse.may_hold_error(data) and self._forward_until_error(data):
            return False
        now = self.owner.clock()
        self.gaps.observe(now - self.last_read_at)
        self.last_read_at = now
        self._last_block = data
        self.owner.more(data)
        return self.stage is Stage.COMMITTED

    def _forward_until_error(self, data: bytes) -> bool:
        """Look into events of which one may be an error; what comes before it is passed on."""
        events = sse.split(data)
        for at, event in enumerate(events):
            found = sse.error_in(event)
            if found is not None:
                if at:
                    self.owner.more(b"".join(events[:at]))
                self._cut(f"the replica sent an error event (status {errors.status_of_event(found)})")
                return True
        return False

    def _stream_ended(self, connection: Connection) -> None:
        endings = self.owner.surface.endings
        if endings and not any(mark in self._last_block for mark in endings):
            self._cut("the stream ended before its last event")
            return
        self._hand_back(connection)
        self.stage = Stage.OVER
        self.owner.passed_on(self)

    def _pass_on_more(self, connection: Connection) -> None:
        """Called for every read of a committed answer that is no stream."""
        self.last_read_at = self.owner.clock()
        data = connection.take()
        if data:
            self.owner.more(data)
        if connection.complete:
            self._hand_back(connection)
            self.stage = Stage.OVER
            self.owner.passed_on(self)
        elif connection.lost:
            self._cut("the connection to the replica was lost")

    # -- the ends

    def next_sequence(self) -> int:
        """The number that an event after the last one has; for streams whose events are numbered (Responses)."""
        return errors.sequence_after(self._last_block)

    def time_out(self, now: float, is_asked_stream: bool, first_byte_seconds: float, idle_seconds: float) -> None:
        """End what is silent too long."""
        connection = self.connection
        if connection is None or connection.paused:
            return
        if self.stage is Stage.COMMITTED:
            if now - self.last_read_at > idle_seconds:
                self._cut(f"the replica was silent for {idle_seconds:g} s")
        elif is_asked_stream or not connection.has_bytes:
            if now - self.sent_at > first_byte_seconds:
                self.abandon()
                self._end(Happening.NO_FIRST_BYTE)
        elif now - self.last_read_at > idle_seconds:
            self.abandon()
            self._end(Happening.SILENT)

    def abandon(self) -> None:
        """Close the connection: the replica's engine stops. One that is still being made is kept for others."""
        self.stage = Stage.OVER
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abort()

    def _cut(self, because: str) -> None:
        self.abandon()
        self.owner.cut(self, because)

    def _end(self, happening: Happening, found: Refusal | None = None) -> None:
        self.stage = Stage.OVER
        self.connection = None
        self.owner.ended(self, happening, found)

    def _hand_back(self, connection: Connection) -> None:
        connection.hand_back(self.last_read_at)
        self.connection = None


class Gaps(Protocol):
    """Takes the time between two reads of a stream."""

    def observe(self, seconds: float) -> None:
        """One more."""


Outgoing = tuple[bytes, bytes, int, bytes | Pieces]
"""First line, header lines, limit of the replica, body."""
