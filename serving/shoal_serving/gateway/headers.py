"""Which header lines travel on: from the client to an engine, and from an engine to the client (semantics: Headers)."""

import re
from typing import Final

from shoal_serving.gateway import patience

Lines = list[tuple[bytes, bytes]]

_HOP_BY_HOP = (
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
)
_CREDENTIALS = (b"authorization", b"x-api-key", b"api-key", b"cookie")
_OBEYED_BY_RAY = (b"x-request-timeout-seconds", b"x-request-disconnect-disabled")
# An engine that answered in gzip could not be looked into; the body, its length and `host` are written anew.
_OURS = (b"accept-encoding", b"expect", b"content-length", b"host", b"forwarded")

_FORWARD: Final = 0
_DROP: Final = 1
_CONTENT_TYPE: Final = 2
_REQUEST_ID: Final = 3
_TRACE: Final = 4
_CONNECTION: Final = 5
_PATIENCE: Final = 6
_REQUEST_ROLES: dict[bytes, int] = {
    **dict.fromkeys((*_HOP_BY_HOP, *_CREDENTIALS, *_OBEYED_BY_RAY, *_OURS), _DROP),
    b"content-type": _CONTENT_TYPE,
    b"x-request-id": _REQUEST_ID,
    b"traceparent": _TRACE,
    b"connection": _CONNECTION,
    # Both in seconds: OpenAI's and Anthropic's clients for Python, and those for Node.
    b"x-stainless-read-timeout": _PATIENCE,
    b"x-stainless-timeout": _PATIENCE,
}
_ROLES_KEPT = 1000
_RESPONSE_ROLES: dict[bytes, int] = dict.fromkeys(
    (*_HOP_BY_HOP, b"content-length", b"x-request-id", b"server-timing"), _DROP
)

_REQUEST_ID_FORM = re.compile(rb"[!-~]{1,128}")
_TRACE_FORM = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Request:
    """What the gateway reads from the headers of a request, and the lines that go on to an engine."""

    __slots__ = ("content_type", "forwarded", "patience", "request_id", "traceparent")

    def __init__(
        self, forwarded: bytes, content_type: bytes, request_id: bytes, traceparent: bytes, patience: float
    ) -> None:
        """`patience`: so many seconds the client waits for a first byte; 0 where it does not say."""
        self.forwarded = forwarded
        self.content_type = content_type
        self.request_id = request_id
        self.traceparent = traceparent
        self.patience = patience


def of_request(lines: Lines) -> Request:
    """Sort the header lines (names in lower case) of a request. An id or trace that is malformed is dropped."""
    kept: list[bytes] = []
    content_type = request_id = trace = connection = b""
    seconds = 0.0
    for name, value in lines:
        role = _role(_REQUEST_ROLES, name)
        if role == _FORWARD:
            kept += (name, b": ", value, b"\r\n")
        elif role == _DROP:
            continue
        elif role == _CONTENT_TYPE:
            content_type = value
            kept += (name, b": ", value, b"\r\n")
        elif role == _REQUEST_ID:
            request_id = value if _REQUEST_ID_FORM.fullmatch(value) else b""
        elif role == _TRACE:
            trace = value if _TRACE_FORM.fullmatch(value) else b""
        elif role == _PATIENCE:
            seconds = patience.read(value)
            kept += (name, b": ", value, b"\r\n")
        else:
            connection = value.lower()
    if connection and connection not in (b"keep-alive", b"close"):
        kept = _without(kept, connection)
    return Request(b"".join(kept), content_type, request_id, trace, seconds)


def travels_back(name: bytes) -> bool:
    """Whether the client sees a header (its name in lower case) of an engine's answer."""
    return _role(_RESPONSE_ROLES, name) == _FORWARD


def is_json(content_type: bytes) -> bool:
    """Whether a Content-Type says JSON."""
    return content_type == b"application/json" or content_type.partition(b";")[0].strip().lower() == b"application/json"


def _role(roles: dict[bytes, int], name: bytes) -> int:
    """What a name is for; what was found out about one that is new is kept, within bounds."""
    found = roles.get(name)
    if found is not None:
        return found
    role = _DROP if name.startswith(b"x-shoal-") else _FORWARD
    if roles is _REQUEST_ROLES and name.startswith(b"x-forwarded-"):
        role = _DROP
    if len(roles) < _ROLES_KEPT and len(name) < 64:
        roles[name] = role
    return role


def _without(kept: list[bytes], connection: bytes) -> list[bytes]:
    """The lines without those that `connection` names as meant for this hop only."""
    named = {token.strip() for token in connection.split(b",")}
    lines = [kept[at : at + 4] for at in range(0, len(kept), 4)]
    return [piece for line in lines if line[0] not in named for piece in line]
