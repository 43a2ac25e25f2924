"""Read what the gateway must know from a multipart form (`model`, `stream`), and change nothing but the model's value.

The body is scanned where it lies: a part is found by the delimiters around it, and no file in it is copied.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from shoal_serving.gateway.errors import MISSING_MODEL, Refusal

DELIMITERS_MOST = 1000
"""More parts than a form has; bounds the time that one body can take."""
HEAD_LIMIT = 4 * 1024
_PARAMETERS_MOST = 16
_VALUE_LIMIT = 1024

_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")
_PARAMETER = re.compile(rb'[ \t]*;[ \t]*([^\s;="]+)[ \t]*=[ \t]*(?:"([^"\\]*+(?:\\.[^"\\]*+)*+)"|([^\s;"]*))')
_DISPOSITION = re.compile(rb"\r\ncontent-disposition[ \t]*:[ \t]*form-data(?=[ \t;])", re.IGNORECASE)
_TRUE = frozenset((b"true", b"1", b"on", b"yes", b"y", b"t"))
"""What the engine takes for true in a form."""


class Form(NamedTuple):
    """What a form asks for, and where the value of `model` stands in the body."""

    model: str
    stream: bool
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Pieces:
    """A body that is sent piece by piece: slices of what was received, and what replaces a value in it."""

    slices: tuple[memoryview, ...]

    def __len__(self) -> int:
        return sum(map(len, self.slices))


def is_form(content_type: bytes) -> bool:
    """Whether a Content-Type says multipart form."""
    return content_type.partition(b";")[0].strip().lower() == b"multipart/form-data"


def read(content_type: bytes, body: bytes | bytearray) -> Form | Refusal:
    """The model and the stream flag of a form, or what is wrong with it."""
    boundary = _boundary(content_type)
    if boundary is None:
        return _bad("the Content-Type header names no valid boundary")
    delimiters = _delimiters(body, b"\r\n--" + boundary)
    _, behind = next(delimiters, (0, -1))
    if behind < 0:
        return _bad("the boundary that the Content-Type header names is not in it")
    found: dict[bytes, tuple[int, int]] = {}
    while body[behind : behind + 2] != b"--":
        end, next_behind = next(delimiters, (0, -1))
        if next_behind < 0:
            return _bad(f"it ends before its last boundary, or has more than {DELIMITERS_MOST} parts")
        head_end = body.find(b"\r\n\r\n", behind, min(end, behind + HEAD_LIMIT))
        if head_end < 0:
            return _bad("a part has no headers, or too large ones")
        name = _field_name(bytes(body[behind:head_end]))
        if name in found:
            return _bad(f"the field `{name.decode('ascii')}` is there twice")
        if name in (b"model", b"stream"):
            found[name] = (head_end + 4, end)
        behind = next_behind
    return _form(body, found)


def whole(body: bytes | bytearray) -> Pieces:
    """The body as it came."""
    return Pieces((memoryview(body),))


def with_model(body: bytes | bytearray, form: Form, name: str) -> Pieces:
    """The body, byte for byte, with another value of `model`; for the form that `read` found in it."""
    view = memoryview(body)
    return Pieces((view[: form.start], memoryview(name.encode()), view[form.end :]))


def _delimiters(body: bytes | bytearray, delimiter: bytes) -> Iterator[tuple[int, int]]:
    """Where each delimiter begins, and what is behind it."""
    # The first one may stand at the very beginning, without the line break that belongs to all others.
    at = -2 if body.startswith(delimiter[2:]) else body.find(delimiter)
    for _ in range(DELIMITERS_MOST):
        if at == -1:
            return
        behind = at + len(delimiter)
        if body[behind : behind + 2] in (b"\r\n", b"--"):
            yield at, behind
        at = body.find(delimiter, behind)


def _boundary(content_type: bytes) -> bytes | None:
    found = _parameters(content_type, content_type.find(b";")).get(b"boundary", b"")
    return found if _BOUNDARY.fullmatch(found) else None


def _field_name(head: bytes) -> bytes:
    """The name in the headers of a part that is a plain field; empty for a file."""
    match = _DISPOSITION.search(head)
    if match is None:
        return b""
    parameters = _parameters(head, match.end())
    return b"" if b"filename" in parameters or b"filename*" in parameters else parameters.get(b"name", b"")


def _parameters(text: bytes, at: int) -> dict[bytes, bytes]:
    """The parameters of a header's value from `at`, names in lower case."""
    found: dict[bytes, bytes] = {}
    for _ in range(_PARAMETERS_MOST if at >= 0 else 0):
        match = _PARAMETER.match(text, at)
        if match is None:
            break
        quoted = match[2]
        found[match[1].lower()] = match[3] if quoted is None else re.sub(rb"\\(.)", rb"\1", quoted)
        at = match.end()
    return found


def _form(body: bytes | bytearray, found: dict[bytes, tuple[int, int]]) -> Form | Refusal:
    start, end = found.get(b"model", (0, 0))
    if start == end:
        return MISSING_MODEL
    if end - start > _VALUE_LIMIT:
        return Refusal(400, f"The field `model` is longer than {_VALUE_LIMIT} bytes.", "invalid_type", "model")
    try:
        model = body[start:end].decode()
    except UnicodeDecodeError:
        return Refusal(400, "The field `model` is not UTF-8 text.", "invalid_type", "model")
    from_, to = found.get(b"stream", (0, 0))
    stream = to - from_ <= 8 and bytes(body[from_:to]).lower() in _TRUE
    return Form(model, stream, start, end)


def _bad(because: str) -> Refusal:
    return Refusal(400, f"The body of the request is not a valid multipart form: {because}.", "invalid_multipart")
