"""What the client of one request gets: a whole answer, a stream with a heartbeat in its silences, or an error."""

from abc import ABC, abstractmethod

from shoal_serving.gateway import errors
from shoal_serving.gateway.errors import Refusal
from shoal_serving.gateway.surfaces import Dialect

HEARTBEAT_SECONDS = 15.0
_HEARTBEAT = b": waiting\n\n"
_STREAM_LINES = b"content-type: text/event-stream; charset=utf-8\r\n"
_ERROR_LINES = b"content-type: application/json\r\n"


class Client(ABC):
    """What a reply needs of the connection that asked."""

    __slots__ = ()

    @abstractmethod
    def answer(self, status: int, lines: bytes, body: bytes) -> None:
        """A whole answer."""

    @abstractmethod
    def begin(self, status: int, lines: bytes, length: int | None, data: bytes, follows: bool) -> None:
        """The head of an answer, and its first bytes; `length` where it is known.

        `follows`: `more` or `end` comes in the same breath, so that all may go out in one write.
        """

    @abstractmethod
    def more(self, data: bytes, follows: bool) -> None:
        """Further bytes."""

    @abstractmethod
    def end(self, data: bytes = b"", *, close: bool = False) -> None:
        """The last bytes."""

    @abstractmethod
    def cut(self) -> None:
        """Close the connection in the middle: what was sent is not whole."""

    @abstractmethod
    def address(self) -> str:
        """From where it connects."""


class Reply:
    """The answer to one client, as far as it went. `status` and `size` are what the access log tells of it."""

    __slots__ = ("_client", "_dialect", "_last_write", "_request_id", "is_committed", "is_early", "size", "status")

    def __init__(self, client: Client, dialect: Dialect, request_id: bytes) -> None:
        self._client = client
        self._dialect = dialect
        self._request_id = request_id
        self.is_committed = False
        """An engine's answer began: it cannot be taken back."""
        self.is_early = False
        """A heartbeat went out before the commit: the client has its 200, and an error must be an event."""
        self.status = 0
        self.size = 0
        self._last_write = 0.0

    def address(self) -> str:
        """From where the client connects."""
        return self._client.address()

    # -- an engine's answer

    def answer(self, status: int, lines: bytes, body: bytes) -> None:
        """All of it at once."""
        self.status = status
        self.size = len(body)
        self._client.answer(status, lines, body)

    def begin(self, status: int, lines: bytes, length: int | None, data: bytes, now: float, follows: bool) -> None:
        """Its head and first bytes."""
        self.is_committed = True
        self.status = status
        self.size = len(data)
        self._last_write = now
        if self.is_early:
            self._client.more(data, follows)
        else:
            self._client.begin(status, lines, length, data, follows)

    def more(self, data: bytes, follows: bool) -> None:
        """Further bytes of it."""
        self.size += len(data)
        self._client.more(data, follows)

    def end(self, data: bytes = b"") -> None:
        """It is complete."""
        self._client.end(data)

    # -- an error

    def refuse(self, refusal: Refusal, lines: bytes) -> None:
        """There is no answer: an error in the shape of the API that was asked."""
        if self.is_early:
            self.status = 200
            self._client.end(errors.event(refusal, self._dialect), close=True)
            return
        self.status = refusal.status
        body = errors.body(refusal, self._dialect, self._request_id.decode("ascii"))
        self.size = len(body)
        self._client.answer(refusal.status, _ERROR_LINES + lines + errors.retry_headers(refusal), body)

    def lose(self, sequence: int) -> None:
        """The stream that began has no end; where its events are numbered, this is the number of the last one."""
        lost = Refusal(500, "The replica was lost while it answered; the answer is not complete.", "upstream_lost")
        self._client.end(errors.event(lost, self._dialect, sequence), close=True)

    def cut(self) -> None:
        """The answer that began has no end, and is no stream that could say so."""
        self._client.cut()

    # -- in its silences

    def heard(self, at: float) -> None:
        """When the engine said something last: until then the stream was not silent."""
        self._last_write = max(self._last_write, at)

    def beat(self, now: float, heard: float = 0.0) -> None:
        """Say that the stream lives, if it was silent too long."""
        self.heard(heard)
        self._beat_after(HEARTBEAT_SECONDS, now)

    def beat_early(self, now: float, arrived: float, after: float, lines: bytes) -> None:
        """The same before the commit; the first one brings the head of the answer."""
        if self.is_early:
            self._beat_after(min(after, HEARTBEAT_SECONDS), now)
        elif now - arrived > after:
            self.is_early = True
            self._last_write = now
            self._client.begin(200, _STREAM_LINES + lines, None, _HEARTBEAT, False)

    def _beat_after(self, seconds: float, now: float) -> None:
        if now - self._last_write > seconds:
            self._last_write = now
            self._client.more(_HEARTBEAT, False)
