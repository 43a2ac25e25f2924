"""Error answers: every refusal of the gateway, and every error of an engine, in the shape of the API that was asked."""

import json
import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from shoal_serving.gateway.surfaces import Dialect


class Outcome(StrEnum):
    """How a request ended, as counted in `shoal_requests_total`."""

    OK = "ok"
    CLIENT_ERROR = "client_error"
    ENGINE_ERROR = "engine_error"
    OVERLOADED = "overloaded"
    QUEUE_FULL = "queue_full"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    UPSTREAM_LOST = "upstream_lost"
    CONTINUED = "continued"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error answer before it has a shape."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    type: str = ""
    retry_after_seconds: float | None = None
    should_retry: bool | None = None

    @property
    def outcome(self) -> Outcome:
        """What such an answer counts as."""
        if self.code == "queue_full":
            return Outcome.QUEUE_FULL
        if self.status == 504:
            return Outcome.TIMEOUT
        if self.status >= 500:
            return Outcome.OVERLOADED if self.status == 503 else Outcome.ENGINE_ERROR
        return Outcome.CLIENT_ERROR


MISSING_MODEL = Refusal(400, "Missing required parameter: 'model'.", "missing_required_parameter", "model")

_OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
    504: "timeout_error",
}
_MESSAGES_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
MESSAGE_LIMIT = 2000
_SEQUENCE = re.compile(rb'"sequence_number": ?(\d{1,9})')


def body(refusal: Refusal, dialect: Dialect, request_id: str = "") -> bytes:
    """The JSON body of an error answer."""
    return json.dumps(shaped(refusal, dialect, request_id)).encode()


def event(refusal: Refusal, dialect: Dialect, sequence: int = 0) -> bytes:
    """The one SSE frame that ends a stream which cannot go on."""
    if dialect is Dialect.RESPONSES:
        frame = {
            "type": "error",
            "code": refusal.code,
            "message": refusal.message,
            "param": refusal.param,
            "sequence_number": sequence,
        }
        return b"event: error\ndata: %b\n\n" % json.dumps(frame).encode()
    data = json.dumps(shaped(refusal, dialect)).encode()
    return (b"event: error\n" if dialect is Dialect.MESSAGES else b"") + b"data: %b\n\n" % data


def sequence_after(events: bytes) -> int:
    """The number of the event that follows these; 0 where they bear none."""
    found = _SEQUENCE.findall(events)
    return int(found[-1]) + 1 if found else 0


def retry_headers(refusal: Refusal) -> bytes:
    """The header lines that tell a client whether and when to come again."""
    lines = b""
    if refusal.retry_after_seconds is not None:
        seconds = max(refusal.retry_after_seconds, 0.001)
        lines += b"retry-after: %d\r\nretry-after-ms: %d\r\n" % (math.ceil(seconds), round(seconds * 1000))
    if refusal.should_retry is not None:
        lines += b"x-should-retry: true\r\n" if refusal.should_retry else b"x-should-retry: false\r\n"
    return lines


def read(status: int, content: bytes, dialect: Dialect) -> Refusal:
    """An engine's error body, whatever its shape, as a refusal with this status; never raises."""
    try:
        found: Any = json.loads(content)
    except (ValueError, RecursionError):
        text = content[:MESSAGE_LIMIT].decode(errors="replace").strip()
        found = {"error": text if text and not text.startswith("<") else ""}
    return of_parsed(status, found, dialect)


def of_parsed(status: int, found: Any, dialect: Dialect) -> Refusal:
    """The same for a body that is parsed already."""
    message, code, param, kind = "", None, None, ""
    error = found.get("error", found.get("detail", found)) if isinstance(found, dict) else found
    if isinstance(error, dict):
        message = str(error.get("message") or "")
        code = error["code"] if isinstance(error.get("code"), str) else None
        param = error["param"] if isinstance(error.get("param"), str) else None
        kind = error["type"] if isinstance(error.get("type"), str) else ""
    elif isinstance(error, list):
        message, param = _of_fields(error)
    elif error:
        message = str(error)
    message = message[:MESSAGE_LIMIT] or f"The engine answered with status {status}."
    if code is not None and code.isdecimal():
        code = None
    param = _path(param) if param else None
    return Refusal(status, message, code or _guess_code(status, message), param, type=_type(status, kind, dialect))


def status_of_event(found: Any) -> int:
    """The HTTP status that an error event means; 500 where it does not tell."""
    error = found.get("error") if isinstance(found, dict) else None
    for source in (error, found):
        code = source.get("code") if isinstance(source, dict) else None
        if isinstance(code, int | str) and str(code).isdecimal() and 400 <= int(code) <= 599:
            return int(code)
    kind = error.get("type") if isinstance(error, dict) else None
    if kind == "overloaded_error":
        return 503
    return 400 if kind in {"invalid_request_error", "BadRequestError"} else 500


def shaped(refusal: Refusal, dialect: Dialect, request_id: str = "") -> dict[str, Any]:
    """The error object itself."""
    if dialect is Dialect.MESSAGES:
        kind = _MESSAGES_TYPES.get(refusal.status)
        if kind is None:
            kind = "api_error" if refusal.status >= 500 else "invalid_request_error"
        shaped: dict[str, Any] = {"type": "error", "error": {"type": kind, "message": refusal.message}}
        if request_id:
            shaped["request_id"] = request_id
        return shaped
    kind = refusal.type or _type(refusal.status, "", dialect)
    return {"error": {"message": refusal.message, "type": kind, "param": refusal.param, "code": refusal.code}}


def _type(status: int, found: str, dialect: Dialect) -> str:
    """OpenAI's name for what vLLM calls NotFoundError, BadRequestError or `Bad Request`."""
    if dialect is not Dialect.MESSAGES and found.endswith("_error") and found == found.lower():
        return found
    return _OPENAI_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")


def _guess_code(status: int, message: str) -> str | None:
    if "maximum context length" in message:
        return "context_length_exceeded"
    return {404: "not_found", 413: "request_too_large", 500: "engine_error", 503: "server_is_overloaded"}.get(status)


def _of_fields(found: list[Any]) -> tuple[str, str | None]:
    """The sentence and the first field of a list of validation errors."""
    sentences, first = [], None
    for entry in found[:10]:
        if not isinstance(entry, dict):
            sentences.append(str(entry)[:200])
            continue
        where = entry.get("loc")
        path = _path(".".join(str(step) for step in where)) if isinstance(where, list | tuple) else ""
        first = first or path or None
        said = str(entry.get("msg") or entry.get("message") or "is not valid")[:200]
        sentences.append(f"{path}: {said}" if path else said)
    return "; ".join(sentences), first


def _path(param: str) -> str:
    """`body.tools.0.function` as `tools[0].function`."""
    path = ""
    for step in param.removeprefix("body.").split("."):
        if step == "body":
            continue
        path += f"[{step}]" if step.isdecimal() else f".{step}" if path else step
    return path
