"""The shape of an HTTP answer: keys in their order, types, framing and the values that carry meaning; not the text."""

import http.client
import json
import re
from dataclasses import dataclass
from itertools import groupby
from typing import Any

_TELLING = frozenset(
    {
        "object",
        "type",
        "param",
        "code",
        "role",
        "finish_reason",
        "message",
        "detail",
        "owned_by",
        "max_model_len",
        "index",
    }
)
_PYDANTIC = re.compile(r"(?<=errors\.pydantic\.dev/)\d+\.\d+")
"""Some of vLLM's messages name the version of pydantic."""
_IGNORED_HEADERS = frozenset({"date", "content-length"})


@dataclass(frozen=True, slots=True)
class Call:
    """One request of the table."""

    name: str
    method: str
    path: str
    body: str | None = None
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)


@dataclass(frozen=True, slots=True)
class Shape:
    """What two engines must have in common."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: object
    is_whole: bool = True
    """False where the connection ended before the answer did."""


def ask(port: int, call: Call) -> Shape:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request(call.method, call.path, call.body, dict(call.headers))
        response = connection.getresponse()
        try:
            text, is_whole = response.read().decode(), True
        except http.client.IncompleteRead as error:
            text, is_whole = error.partial.decode(), False
        headers = [(name.lower(), value) for name, value in response.getheaders()]
    finally:
        connection.close()
    kept = tuple(sorted((name, value) for name, value in headers if name not in _IGNORED_HEADERS))
    return Shape(response.status, kept, _body_shape(text, dict(headers).get("content-type", "")), is_whole)


def _body_shape(text: str, content_type: str) -> object:
    if content_type.startswith("text/event-stream"):
        events = text.split("\n\n")
        assert events.pop() == "", f"the stream does not end with a blank line: {text[-80:]!r}"
        shapes = [_event_shape(event) for event in events]
        return [shape for shape, _ in groupby(shapes)]
    if content_type.startswith("application/json"):
        return shape_of("", json.loads(text))
    return text


def _event_shape(event: str) -> object:
    lines = []
    for line in event.split("\n"):
        field, colon, value = line.partition(": ")
        assert colon, f"a line without a field: {line!r}"
        lines.append((field, shape_of("", json.loads(value)) if value.startswith("{") else value))
    return lines


def shape_of(key: str, value: Any) -> object:
    if key == "top_logprobs" and value:
        return type(value).__name__  # its keys can be the tokens themselves
    if isinstance(value, dict):
        return [(name, shape_of(name, item)) for name, item in value.items()]
    if isinstance(value, list):
        shapes = [shape_of("", item) for item in value]
        return ["list", *(shape for shape, _ in groupby(shapes))]
    if key == "message" and isinstance(value, str):
        return _PYDANTIC.sub("", value)
    if key in _TELLING or value is None or isinstance(value, bool):
        return value
    if isinstance(value, str) and ("-" in value or "_" in value) and key in ("id", "item_id"):
        return value[: max(value.rfind("-"), value.rfind("_"))]
    return type(value).__name__
