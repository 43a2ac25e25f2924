"""One try of a request at one endpoint: connected, sent, held until the commit, relayed; all in callbacks."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final

from shoal_api import proof
from shoal_serving.gateway import errors, sse
from shoal_serving.gateway.errors import Refusal
from shoal_serving.gateway.metrics import Histogram
from shoal_serving.gateway.multipart import Pieces
from shoal_serving.gateway.retrying import Happening, of_status
from shoal_serving.gateway.surfaces import Surface
from shoal_serving.gateway.upstream import Connection, LiveEndpoint, Receiver, Unreachable

log = logging.getLogger(__name__)

HELD_ANSWER_LIMIT = 8 * 1024 * 1024
"""An answer larger than this is passed on as it comes."""

_BUSY = proof.BUSY_HEADER.encode()


CONNECTING: Final = 0
SENT: Final = 1
COMMITTED: Final = 2
OVER: Final = 3
"""Where an attempt is: its `stage`. Plain numbers, since every read asks for it."""


class Owner(ABC):
    """The request that tries. An attempt ends in one call of `pass_on`, `passed_on`, `ended` or `cut`."""

    __slots__ = ("clock", "surface")

    def __init__(self, surface: Surface, clock: Callable[[], float]) -> None:
        self.surface = surface
        self.clock = clock

    @abstractmethod
    def pass_on(self, attempt: "Attempt", lines: bytes, body: bytes) -> None:
        """A complete answer came."""

    @abstractmethod
    def commit(self, attempt: "Attempt", lines: bytes, length: int | None, data: bytes, follows: bool) -> None:
        """The answer begins; from here on it cannot be taken back. `follows`: more of it comes in the same breath."""

    @abstractmethod
    def more(self, data: bytes, follows: bool) -> None:
        """Further bytes of a committed answer; whole events where it is a stream."""

    @abstractmethod
    def passed_on(self, attempt: "Attempt") -> None:
        """The committed answer is complete."""

    @abstractmethod
    def ended(self, attempt: "Attempt", happening: Happening, found: Refusal | None = None) -> None:
        """The attempt brought no answer; `found` is what the engine said."""

    @abstractmethod
    def cut(self, attempt: "Attempt", because: str) -> None:
        """The committed answer cannot go on here."""


_UNUSED = sse.Splitter()
"""Of answers that are no streams."""


class Attempt:
    """One try at one endpoint that is reserved for it."""

    __slots__ = (
        "_held",
        "_held_size",
        "_last_block",
        "_splitter",
        "connection",
        "endpoint",
        "first_read_at",
        "gaps",
        "is_stream",
        "last_read_at",
        "owner",
        "sent_at",
        "stage",
        "status",
    )

    def __init__(self, owner: Owner, endpoint: LiveEndpoint, gaps: Histogram) -> None:
        self.owner = owner
        self.endpoint = endpoint
        self.gaps = gaps
        self.connection: Connection | None = None
        self.stage: int = CONNECTING
        self.status = 0
        self.is_stream = False
        self.sent_at = 0.0
        self.first_read_at = 0.0
        self.last_read_at = 0.0
        self._held: list[bytes] | None = None
        self._held_size = 0
        self._last_block = b""
        self._splitter: sse.Splitter = _UNUSED

    # -- out

    def connect(self, seconds: float, request: "Outgoing") -> None:
        """Make a connection, then send."""
        endpoint = self.endpoint

        def opened(result: Connection | Unreachable) -> None:
            now = self.owner.clock()
            if isinstance(result, Unreachable):
                endpoint.unreachable(now, str(result))
                if self.stage == CONNECTING:
                    self._end(Happening.UNREACHABLE)
                return
            endpoint.reached()
            if self.stage == CONNECTING:
                self.send(result, request)
            else:
                result.hand_back(now)

        endpoint.open(seconds, opened)

    def send(self, connection: Connection, request: "Outgoing") -> None:
        """Send on a connection that is there."""
        self.stage = SENT
        self.connection = connection
        self.sent_at = self.last_read_at = self.owner.clock()
        first_line, lines, limit, body = request
        connection.request(self._received, first_line, lines, limit, body)

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
        data, held = connection.take(), self._held
        if connection.complete:
            if held is not None:
                held.append(data)
                data = b"".join(held)
            if self.status >= 400:
                self._judge_status(connection, data)
                return
            self.endpoint.health.busy_seconds = 0.0
            lines = connection.lines()
            self._hand_back(connection)
            self.owner.pass_on(self, lines, data)
            return
        self._held_size += len(data)
        if held is None:
            self._held = held = []
        if self._held_size <= HELD_ANSWER_LIMIT:
            held.append(data)
        elif self.status < 400:
            held.append(data)
            length = connection.header(b"content-length")
            self._commit(connection, b"".join(held), self._pass_on_more, int(length) if length.isdigit() else None)

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
        self.stage = COMMITTED
        self._held = None
        self._last_block = data
        self.first_read_at = self.last_read_at
        connection.receiver = receiver
        follows = not further and connection.complete and (not self.is_stream or self._has_ended())
        self.owner.commit(self, connection.lines(), length, data, follows)
        if self.stage != COMMITTED or (further and not self._forward(further, connection.complete)):
            return
        if connection.complete:
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
            if data and not self._forward(data, connection.complete):
                return
        # Behind the last event nothing is missing, not even where the connection ended without the end of the body.
        if connection.complete or (connection.lost and self.has_all()):
            self._stream_ended(connection)
        elif connection.lost:
            self._cut("the connection to the replica was lost")

    def _forward(self, data: bytes, is_last: bool) -> bool:
        """Pass whole events on; false where the stream is over by that: one of them is an error, or unreadable."""
        if b"error" in data and sse.may_hold_error(data) and self._forward_until_error(data):
            return False
        now = self.owner.clock()
        self.gaps.observe(now - self.last_read_at)
        self.last_read_at = now
        self._last_block = data
        self.owner.more(data, is_last and self._has_ended())
        return self.stage == COMMITTED

    def _forward_until_error(self, data: bytes) -> bool:
        """Look into events of which one may be an error; what comes before it is passed on."""
        events = sse.split(data)
        for at, event in enumerate(events):
            found = sse.error_in(event)
            if found is not None:
                if at:
                    self.owner.more(b"".join(events[:at]), False)
                if self.stage == COMMITTED:
                    self._cut(f"the replica sent an error event (status {errors.status_of_event(found)})")
                return True
        return False

    def _stream_ended(self, connection: Connection) -> None:
        if not self._has_ended():
            self._cut("the stream ended before its last event")
            return
        self._hand_back(connection)
        self.stage = OVER
        self.owner.passed_on(self)

    def _has_ended(self) -> bool:
        """Whether what was passed on last is the end of a whole stream."""
        endings, block = self.owner.surface.endings, self._last_block
        for mark in endings:
            # At the beginning of a line: what a model says may hold the same words, but stands inside of one.
            if block.startswith(mark) or block.find(b"\n" + mark) >= 0 or block.find(b"\r" + mark) >= 0:
                return True
        return not endings

    def _pass_on_more(self, connection: Connection) -> None:
        """Called for every read of a committed answer that is no stream."""
        self.last_read_at = self.owner.clock()
        data = connection.take()
        if data:
            self.owner.more(data, connection.complete)
        if connection.complete:
            self._hand_back(connection)
            self.stage = OVER
            self.owner.passed_on(self)
        elif connection.lost:
            self._cut("the connection to the replica was lost")

    # -- the ends

    def next_sequence(self) -> int:
        """The number that an event after the last one has; for streams whose events are numbered (Responses)."""
        return errors.sequence_after(self._last_block)

    def has_all(self) -> bool:
        """Whether the last event of a stream was passed on, though the end of the body did not come yet."""
        return self.stage == COMMITTED and self.is_stream and bool(self.owner.surface.endings) and self._has_ended()

    def time_out(self, now: float, is_asked_stream: bool, first_byte_seconds: float, idle_seconds: float) -> None:
        """End what is silent too long."""
        connection = self.connection
        if connection is None or connection.paused:
            return
        if self.stage == COMMITTED:
            if now - self.last_read_at <= idle_seconds:
                return
            if self.has_all():
                self._stream_ended(connection)
            else:
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
        self.stage = OVER
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abort()

    def _cut(self, because: str) -> None:
        self.abandon()
        self.owner.cut(self, because)

    def _end(self, happening: Happening, found: Refusal | None = None) -> None:
        self.stage = OVER
        self.connection = None
        self.owner.ended(self, happening, found)

    def _hand_back(self, connection: Connection) -> None:
        connection.hand_back(self.last_read_at)
        self.connection = None


Outgoing = tuple[bytes, bytes, int, bytes | Pieces]
"""First line, header lines, limit of the replica, body."""
