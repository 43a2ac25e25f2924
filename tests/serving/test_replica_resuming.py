"""Before its engine sees a continuation, the replica drops ids that end inside a character, and says how many."""

import asyncio
import json
from typing import Any

import pytest

from shoal_api import proof
from shoal_serving.replica.door import Message, Receive, Scope, Send
from shoal_serving.replica.resuming import Resuming, prepare, without_cut_character

EURO = [*b"abc", *"€".encode()]


def text_of(ids: list[int]) -> str:
    return bytes(ids).decode(errors="replace")


@pytest.mark.parametrize(("count", "dropped"), [(3, 0), (4, 1), (5, 2), (6, 0)])
def test_ids_that_end_inside_a_character_are_dropped(count: int, dropped: int) -> None:
    assert without_cut_character(EURO[:count], 6, text_of) == dropped


def test_ids_of_the_prompt_are_never_dropped() -> None:
    assert without_cut_character([0xE2], 0, text_of) == 0
    assert without_cut_character([0xE2, 0xE2, 0xE2], 2, text_of) == 2


def test_a_long_prompt_is_not_decoded_as_a_whole() -> None:
    lengths: list[int] = []

    def measured(ids: list[int]) -> str:
        lengths.append(len(ids))
        return text_of(ids)

    assert without_cut_character([97] * 100_000 + [0xE2], 9, measured) == 1
    assert max(lengths) <= 64


@pytest.mark.parametrize(
    ("fields", "default_most", "expected"),
    [
        ({"max_tokens": 7}, None, {"max_tokens": 9}),
        ({"max_tokens": None}, None, {"max_tokens": None}),
        ({"max_tokens": None}, 10, {"max_tokens": 7}),
        ({"max_tokens": 3}, 10, {"max_tokens": 5}),
    ],
)
def test_the_limit_follows_what_was_dropped(
    fields: dict[str, Any], default_most: int | None, expected: dict[str, Any]
) -> None:
    body = json.dumps({"prompt": EURO[:5], "user": "u", **fields}).encode()

    prepared = prepare(body, 5, text_of, default_most)

    assert prepared.dropped == 2
    assert json.loads(prepared.body) == {"prompt": EURO[:3], "user": "u", **expected}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"prompt":"text"}', b'{"prompt":[]}', b'{"prompt":["a"]}'])
def test_what_is_no_token_prompt_is_left_to_the_engine(body: bytes) -> None:
    assert prepare(body, 3, text_of) == (body, 0)


def _through(path: str, headers: list[tuple[bytes, bytes]], *received: Message) -> tuple[list[Message], list[Any]]:
    """What comes out of the layer, and what the engine's app was given."""
    sent: list[Message] = []
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        seen.extend([dict(scope["headers"]), message, await receive()])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b"x"})

    async def story() -> None:
        waiting = [*received, {"type": "http.disconnect"}]

        async def receive() -> Message:
            return waiting.pop(0)

        async def send(message: Message) -> None:
            sent.append(message)

        await Resuming(app, text_of)({"type": "http", "path": path, "headers": headers}, receive, send)

    asyncio.run(story())
    return sent, seen


def _part(body: bytes, more: bool = False) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


CONTINUE = (proof.CONTINUE_HEADER.encode(), b"4")
BODY = json.dumps({"prompt": EURO[:4], "max_tokens": 1}).encode()


def test_the_answers_head_tells_how_many_were_dropped() -> None:
    headers = [(b"content-length", b"999"), CONTINUE]
    sent, (given, message, after) = _through("/v1/completions", headers, _part(BODY[:9], more=True), _part(BODY[9:]))

    assert sent[0]["headers"] == [(b"a", b"b"), (proof.DROPPED_HEADER.encode(), b"1")]
    assert json.loads(message["body"]) == {"prompt": EURO[:3], "max_tokens": 2}
    assert given[b"content-length"] == str(len(message["body"])).encode()
    assert after["type"] == "http.disconnect"


@pytest.mark.parametrize(
    ("path", "headers"),
    [("/v1/completions", []), ("/v1/chat/completions", [CONTINUE]), ("/v1/completions", [(CONTINUE[0], b"x")])],
)
def test_any_other_request_passes_untouched(path: str, headers: list[tuple[bytes, bytes]]) -> None:
    sent, (_, message, _) = _through(path, headers, _part(BODY))

    assert sent[0]["headers"] == [(b"a", b"b")]
    assert message["body"] == BODY


def test_a_client_that_leaves_before_its_body_is_there_reaches_no_engine() -> None:
    assert _through("/v1/completions", [CONTINUE], _part(BODY[:9], more=True)) == ([], [])
