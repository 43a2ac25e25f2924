"""A request while it comes in: its head as it was sent, its body, and what was found out about it so far."""

import httptools

from shoal_serving.gateway.errors import Refusal
from shoal_serving.gateway.keys import ANYBODY, Caller
from shoal_serving.gateway.surfaces import SURFACES, Surface
from shoal_serving.gateway.waiting_room import ByteBudget


class Incoming:
    """One request. `surface` is None where its path is no inference path."""

    __slots__ = (
        "_body",
        "_form",
        "_further",
        "caller",
        "expects_100",
        "has_connection_header",
        "has_head",
        "headers",
        "is_10",
        "keep_alive",
        "length",
        "method",
        "refusal",
        "size",
        "surface",
        "taken",
        "url",
    )

    def __init__(self) -> None:
        self.url = b""
        self.method = b""
        self.headers: list[tuple[bytes, bytes]] = []
        """Names in lower case."""
        self.length = -1
        """What Content-Length says; -1 where there is none."""
        self.size = 0
        """Bytes of the body that came."""
        self.taken = 0
        """Bytes counted in the budget."""
        self.has_head = False
        self.has_connection_header = False
        self.is_10 = False
        self.keep_alive = True
        self.expects_100 = False
        self.surface: Surface | None = None
        self.refusal: Refusal | None = None
        self.caller: Caller = ANYBODY
        self._body = b""
        self._further: list[bytes] | None = None
        self._form: bytearray | None = None

    def header(self, name: bytes, value: bytes) -> None:
        """One more header line."""
        name = name.lower()
        self.headers.append((name, value))
        if name == b"content-length":
            self.length = int(value)
        elif name == b"connection":
            self.has_connection_header = True
        elif name == b"expect":
            self.expects_100 = value.lower() == b"100-continue"

    def is_form(self) -> None:
        """Its body may be an upload: it grows in place, since joined pieces would lie in memory twice."""
        self._form = bytearray()

    def more(self, data: bytes) -> None:
        """Further bytes of the body; most come in one piece."""
        self.size += len(data)
        if self._form is not None:
            self._form += data
        elif self._further is not None:
            self._further.append(data)
        elif self._body:
            self._further = [self._body, data]
            self._body = b""
        else:
            self._body = data

    def body(self) -> bytes | bytearray:
        """All of it; not kept twice."""
        if self._form is not None:
            return self._form
        body = self._body if self._further is None else b"".join(self._further)
        self._body = b""
        self._further = None
        return body

    def forget(self, budget: ByteBudget) -> None:
        """The body is not needed."""
        self._body = b""
        self._further = None
        self._form = None
        self.uncount(budget)

    def uncount(self, budget: ByteBudget) -> None:
        """Its bytes count no longer as held."""
        if self.taken:
            budget.give_back(self.taken)
            self.taken = 0


def surface_of(url: bytes) -> Surface | None:
    """The surface that a target means, with or without a query; None where it is no inference path."""
    surface = SURFACES.get(url)
    if surface is None and not url.startswith(b"/v1/models"):
        surface = SURFACES.get(path_of(url))
    return surface


def target_of(url: bytes) -> bytes:
    """Path and query; the target may be an absolute URL."""
    if url.startswith(b"/"):
        return url
    parsed = httptools.parse_url(url)
    path: bytes = parsed.path or b"/"
    return path + (b"?" + parsed.query if parsed.query else b"")


def path_of(url: bytes) -> bytes:
    """The path alone; empty where the target is none."""
    try:
        return httptools.parse_url(url).path or b""
    except httptools.HttpParserInvalidURLError:
        return b""
