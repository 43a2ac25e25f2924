"""Refusals in the shapes of vLLM 0.32, one for each way in which a request can be wrong or unlucky."""

import json
from dataclasses import dataclass
from typing import Literal

Surface = Literal["openai", "anthropic"]

BUSY = "The engine is currently busy and cannot accept new requests. Please try again later or on a different instance."
DEAD = "EngineCore encountered an issue. See stack trace (above) for the root cause."

_PHRASES = {
    400: ("BadRequestError", "the simulator was told to refuse this request"),
    429: ("Too Many Requests", "the simulator was told to refuse this request"),
    500: ("InternalServerError", DEAD),
    502: ("Bad Gateway", "the simulator was told to refuse this request"),
    503: ("Service Unavailable", BUSY),
    504: ("Gateway Timeout", "the simulator was told to refuse this request"),
}


class Refused(Exception):
    """The answer to a request that does not run."""

    def __init__(self, status: int, body: bytes, allow: str = "") -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.allow = allow


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")


def refused(status: int, kind: str, message: str, param: str | None, surface: Surface = "openai") -> Refused:
    """An error of vLLM's handlers."""
    if surface == "anthropic":
        return Refused(status, compact({"type": "error", "error": {"type": kind, "message": message}}))
    return Refused(status, compact({"error": _fields(status, kind, message, param)}))


def invalid(message: str, param: str | None, surface: Surface = "openai", value: object = None) -> Refused:
    """400 of a check in vLLM itself."""
    if value is not None:
        message += f" (parameter={param}, value={value})"
    elif param is not None:
        message += f" (parameter={param})"
    return refused(400, "BadRequestError", message, param, surface)


def unknown_model(name: str, served: str, surface: Surface) -> Refused:
    return refused(
        404, "NotFoundError", f"The model `{name}` does not exist. Valid aliases: {served}.", "model", surface
    )


def by_status(status: int, surface: Surface) -> Refused:
    """What vLLM (or a proxy before it) answers with this status, without a fault of the request."""
    kind, message = _PHRASES.get(status, ("InternalServerError", DEAD))
    return refused(status, kind, message, None, surface)


def event(status: int) -> str:
    """An error inside a stream."""
    kind = "ServiceUnavailableError" if status == 503 else _PHRASES.get(status, _PHRASES[500])[0]
    message = _PHRASES.get(status, _PHRASES[500])[1]
    return "data: " + json.dumps({"error": _fields(status, kind, message, None)}) + "\n\n"


def anthropic_event(status: int) -> str:
    """The same on /v1/messages: vLLM reads its own error event as a chat's chunk, and tells that this went wrong."""
    begin = _PHRASES.get(status, _PHRASES[500])[1][:2]
    given = f"{{'error': {{'message': '{begin}...am': None, 'code': {status}}}}}"
    link = "    For further information visit https://errors.pydantic.dev/2.14/v/missing"
    missing = f"  Field required [type=missing, input_value={given}, input_type=dict]\n{link}"
    message = f"2 validation errors for ChatCompletionStreamResponse\nmodel\n{missing}\nchoices\n{missing}"
    error = {"type": "error", "error": {"type": "internal_error", "message": message}}
    return f"event: error\ndata: {compact(error).decode()}\n\n"


def _fields(status: int, kind: str, message: str, param: str | None) -> dict[str, object]:
    return {"message": message, "type": kind, "param": param, "code": status}


def not_found() -> Refused:
    return Refused(404, b'{"detail":"Not Found"}')


def not_allowed(allowed: str) -> Refused:
    return Refused(405, b'{"detail":"Method Not Allowed"}', allowed)


@dataclass(frozen=True, slots=True)
class Flaw:
    """One thing that a body's check found wrong."""

    kind: str
    where: str
    message: str
    given: object
    context: str = ""

    def line(self) -> str:
        text = (
            f"{{'type': {self.kind!r}, 'loc': {self.where!r}, 'msg': {self.message!r}, 'input': {_given(self.given)!r}"
        )
        return text + (f", 'ctx': {{'error': {self.context!r}}}}}" if self.context else "}")


_MOST_LINES = 10
_LONGEST = 200


def flawed(flaws: list[Flaw]) -> Refused:
    """400 of the body's check; vLLM bounds what it says of it."""
    label = "error" if len(flaws) == 1 else "errors"
    lines = [f"{len(flaws)} validation {label}:", *("  " + flaw.line() for flaw in flaws[:_MOST_LINES])]
    if len(flaws) > _MOST_LINES:
        lines.append(f"  ...and {len(flaws) - _MOST_LINES} more {label}")
    return refused(400, "Bad Request", "\n".join(lines), flaws[0].where)


def wrong_type() -> Refused:
    message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
    return refused(400, "Bad Request", message, None)


def _given(value: object) -> str:
    if isinstance(value, str):
        return value if len(value) <= _LONGEST else value[:_LONGEST] + "...[truncated]"
    if isinstance(value, list | dict):
        return f"<{type(value).__name__} of {len(value)} items>"
    return str(value)
