"""A planned answer: all that will be sent, worked out and framed beforehand, so that sending costs almost nothing."""

from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus

from shoal_api import proof

ID = "\x00"
"""Stands in a planned text where the answer's id goes."""
CREATED = "\x01"
"""Stands in a planned text where the second of the request goes."""

DONE = "data: [DONE]\n\n"
LAST_CHUNK = b"0\r\n\r\n"

_CREATED_DIGITS = 10


@dataclass(frozen=True, slots=True)
class Frames:
    """A plan framed for HTTP/1.1; what is missing is the id, for which marks of its length stand."""

    mark: bytes
    head: bytes
    """A stream's headers and the events that it begins with."""
    steps: tuple[bytes, ...]
    """A stream's further chunks, by the step of the engine that they belong to."""
    whole: bytes
    """The whole answer, its headers too."""


@dataclass(slots=True)
class Plan:
    """The answer to one request, known before it runs."""

    prompt: str = ""
    """Its tokens."""
    steps: tuple[tuple[str, ...], ...] = ()
    """A stream's events, by the step of the engine that they belong to."""
    body: str = ""
    """The body, where the answer is no stream."""
    opening: tuple[str, ...] = ()
    """Events that a stream begins with, before the engine has done anything."""
    streams: bool = False
    sequences: int = 1
    tokens: int = 0
    """Tokens written, over all sequences."""
    longest: int = 1
    """Steps of the engine that it takes."""
    finish_reasons: tuple[str, ...] = ()
    dying: tuple[str, ...] | None = ()
    """What a stream ends with when the engine dies under it; None where the connection is cut."""
    takes_client_id: bool = True
    """The request's x-request-id becomes the id."""
    dropped: int | None = None
    """In a continuation: the trailing ids that ended inside a character, and were left out."""
    blocks: tuple[int, ...] | None = None
    """Hashes of the prompt's blocks, once the cache has asked for them."""
    _framed: dict[int, tuple[int, Frames]] = field(default_factory=dict)

    def frames(self, id_length: int, second: int) -> Frames:
        """The bytes for an id of this length in this second; worked out at most once a second."""
        known = self._framed.get(id_length)
        if known is not None and known[0] == second:
            return known[1]
        frames = self._frame(id_length, second)
        self._framed[id_length] = (second, frames)
        return frames

    def _frame(self, id_length: int, second: int) -> Frames:
        mark = ID * id_length
        more = "" if self.dropped is None else f"{proof.DROPPED_HEADER}: {self.dropped}\r\n"
        if not self.streams:
            body = filled(self.body, mark, second)
            return Frames(mark.encode(), b"", (), head(200, second, len(body), more=more) + body)
        opening = stream_head(second, more) + b"".join([chunk(filled(event, mark, second)) for event in self.opening])
        steps = tuple(b"".join([chunk(filled(event, mark, second)) for event in step]) for step in self.steps)
        return Frames(mark.encode(), opening, steps, opening + b"".join(steps) + LAST_CHUNK)

    def events(self, answer_id: str, second: int) -> list[list[bytes]]:
        """The events of each step, unframed and complete; the opening ones stand before the first step's."""
        steps = [[filled(event, answer_id, second) for event in step] for step in self.steps]
        return [[filled(event, answer_id, second) for event in self.opening], *steps]


def filled(text: str, answer_id: str, second: int) -> bytes:
    """A planned text with its id and its second."""
    created = str(second).rjust(_CREATED_DIGITS)
    return text.replace(ID, answer_id).replace(CREATED, created).encode(errors="replace")


def chunk(data: bytes) -> bytes:
    """One event as one chunk of the transfer, as uvicorn writes it."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def head(status: int, second: int, length: int, kind: str = "application/json", more: str = "") -> bytes:
    """The headers of an answer of known length; `more` holds whole header lines."""
    reason, typed = HTTPStatus(status).phrase, f"content-type: {kind}\r\n" if length and kind else ""
    return (
        f"HTTP/1.1 {status} {reason}\r\ndate: {formatdate(second, usegmt=True)}\r\nserver: uvicorn\r\n{more}"
        f"content-length: {length}\r\n{typed}vary: Origin\r\n\r\n"
    ).encode("latin-1")


def stream_head(second: int, more: str = "") -> bytes:
    return (
        f"HTTP/1.1 200 OK\r\ndate: {formatdate(second, usegmt=True)}\r\nserver: uvicorn\r\n"
        f"{more}content-type: text/event-stream; charset=utf-8\r\nvary: Origin\r\ntransfer-encoding: chunked\r\n\r\n"
    ).encode("latin-1")
