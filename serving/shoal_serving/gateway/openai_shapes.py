"""Read what the gateway must know from a JSON body (`model`, `stream`), and change nothing but the value of `model`."""

import difflib
import json
import re
from collections.abc import Iterable
from typing import Any

from pydantic_core import from_json

from shoal_serving.gateway.errors import MISSING_MODEL, Refusal

_NAME_SHOWN = 200
_USER_MOST = 128
_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")


class Asked:
    """What a body asks for. `fields` is the whole body, parsed; it is kept by nobody."""

    __slots__ = ("fields", "model", "stream")

    def __init__(self, model: str, stream: bool, fields: dict[str, Any]) -> None:
        self.model = model
        self.stream = stream
        self.fields = fields


def read(body: bytes) -> Asked | Refusal:
    """The model and the stream flag at the top level of a JSON body, or why it is none."""
    try:
        found: Any = from_json(body, cache_strings=False)
    except ValueError:
        return Refusal(400, "The body of the request is not valid JSON.", "invalid_json")
    if type(found) is not dict:
        return Refusal(400, "The body of the request must be a JSON object.", "invalid_json")
    model = found.get("model")
    if type(model) is str and model:
        return Asked(model, found.get("stream") is True, found)
    if model is None or model == "":
        return MISSING_MODEL
    return Refusal(400, "Invalid type for 'model': a string is expected.", "invalid_type", "model")


def user_of(fields: dict[str, Any]) -> str:
    """For whom a body says that it asks, as OpenAI or Anthropic call it; empty where it does not."""
    user = fields.get("safety_identifier") or fields.get("user")
    if user is None:
        metadata = fields.get("metadata")
        if type(metadata) is dict:
            user = metadata.get("user_id")
    return user[:_USER_MOST] if type(user) is str else ""


def with_model(body: bytes, name: str) -> bytes:
    """The same body, byte for byte, with another value of the top-level `model`; for a body that `read` accepted."""
    value = json.dumps(name)
    if body.count(b'"model"') == 1 and b"\\u" not in body:
        match = re.search(rb'"model"[ \t\n\r]*:[ \t\n\r]*("(?:[^"\\]|\\.)*")', body)
        if match:
            return body[: match.start(1)] + value.encode() + body[match.end(1) :]
    text = body.decode()
    pieces, copied = [], 0
    for start, end in _values_of_model(text):
        pieces += [text[copied:start], value]
        copied = end
    return "".join([*pieces, text[copied:]]).encode()


def not_found(model: str, names: Iterable[str]) -> Refusal:
    """404 for a name that leads nowhere, with the names that look like it."""
    shown = model if len(model) <= _NAME_SHOWN else model[:_NAME_SHOWN] + "…"
    message = f"The model `{shown}` does not exist or you do not have access to it."
    near = _near(model, names) if len(model) <= _NAME_SHOWN else []
    if near:
        message += f" Did you mean {' or '.join(f'`{name}`' for name in near)}?"
    return Refusal(404, message, "model_not_found", "model", type="invalid_request_error")


def _near(model: str, names: Iterable[str]) -> list[str]:
    """Up to three names within reach of a slip of the fingers: other case, a part of the name, a few letters."""
    by_fold: dict[str, str] = {}
    for name in names:
        by_fold.setdefault(name.casefold(), name)
    asked = model.casefold()
    close = difflib.get_close_matches(asked, by_fold, n=3, cutoff=0.6)
    close += [fold for fold in by_fold if fold not in close and len(asked) >= 3 and (asked in fold or fold in asked)]
    return [by_fold[fold] for fold in close[:3]]


def _values_of_model(text: str) -> Iterable[tuple[int, int]]:
    """Where the values of `model` stand at the top level of an object (a key may come twice; the last one counts)."""
    at = _skip(text, 0) + 1
    while True:
        at = _skip(text, at)
        if text[at] == "}":
            return
        if text[at] == ",":
            at = _skip(text, at + 1)
        key, at = _DECODER.raw_decode(text, at)
        start = _skip(text, _skip(text, at) + 1)
        _, at = _DECODER.raw_decode(text, start)
        if key == "model":
            yield start, at


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
