"""Let the engine go on with an answer that another replica began: its token prompt must not end inside a character."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from shoal_api import proof
from shoal_serving.replica.door import App, Message, Receive, Scope, Send

PATH = "/v1/completions"

TextOf = Callable[[list[int]], str]
"""Decodes ids; a text that ends inside a character ends with the replacement character U+FFFD."""

_CONTINUE = proof.CONTINUE_HEADER.encode()
_DROPPED = proof.DROPPED_HEADER.encode()
_LOOKED_AT = 64
"""A character's ids are few: so many before the end tell whether one is cut."""


class Prepared(NamedTuple):
    """A body for the engine, and how many trailing ids it was given without."""

    body: bytes
    dropped: int


class Resuming:
    """Stands before the engine's app. `default_most`: tokens of an answer whose request sets no limit, if the model's
    own configuration has such a number."""

    def __init__(self, app: App, text_of: TextOf, default_most: int | None = None) -> None:
        self._app = app
        self._text_of = text_of
        self._default_most = default_most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _answer_so_far(scope)
        if answer is None:
            await self._app(scope, receive, send)
            return
        body = await _read(receive)
        if body is None:
            return
        prepared = prepare(body, answer, self._text_of, self._default_most)
        told = False

        async def receive_prepared() -> Message:
            nonlocal told
            if told:
                return await receive()
            told = True
            return {"type": "http.request", "body": prepared.body, "more_body": False}

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (_DROPPED, b"%d" % prepared.dropped)]}
            await send(message)

        others = [(name, value) for name, value in scope["headers"] if name not in (b"content-length", _CONTINUE)]
        headers = [*others, (b"content-length", b"%d" % len(prepared.body))]
        await self._app({**scope, "headers": headers}, receive_prepared, send_marked)


def prepare(body: bytes, answer: int, text_of: TextOf, default_most: int | None = None) -> Prepared:
    """The body for the engine. `answer`: how many of its prompt's last ids are answer, which may be dropped.

    A body that is no token prompt stays as it is: the engine says what is wrong with it.
    """
    try:
        fields = json.loads(body)
    except ValueError:
        return Prepared(body, 0)
    ids = fields.get("prompt") if isinstance(fields, dict) else None
    if not isinstance(ids, list) or not ids or not all(type(number) is int and number >= 0 for number in ids):
        return Prepared(body, 0)
    dropped = without_cut_character(ids, min(answer, len(ids)), text_of)
    changed: dict[str, Any] = {}
    if dropped:
        changed["prompt"] = ids[: len(ids) - dropped]
    most = fields.get("max_tokens")
    if type(most) is int and dropped:
        changed["max_tokens"] = most + dropped
    elif most is None and default_most is not None:
        changed["max_tokens"] = max(default_most - answer + dropped, 1)
    if changed:
        body = json.dumps({**fields, **changed}, separators=(",", ":")).encode()
    return Prepared(body, dropped)


def without_cut_character(ids: list[int], answer: int, text_of: TextOf) -> int:
    """How many trailing ids of `ids` to drop (of the last `answer`), so that no character is cut at the text's end."""
    dropped = 0
    while dropped < answer:
        end = len(ids) - dropped
        if not text_of(ids[max(0, end - _LOOKED_AT) : end]).endswith("\ufffd"):
            break
        dropped += 1
    return dropped


def _answer_so_far(scope: Scope) -> int | None:
    if scope["type"] != "http" or scope["path"] != PATH:
        return None
    for name, value in scope["headers"]:
        if name == _CONTINUE:
            return int(value) if value.isdigit() else None
    return None


async def _read(receive: Receive) -> bytes | None:
    """The whole body; None where the client left before it was there."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)
