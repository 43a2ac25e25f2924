"""A replica sends token ids beside the events of a stream where the gateway asks for that, and nowhere else."""

import asyncio
from typing import Any

import pytest

from shoal_api import proof, token_ids
from shoal_serving.replica.door import Message, Receive, Scope, Send
from shoal_serving.replica.ids_apart import IdsApart

EVENTS = b'data: {"token_ids":[5]}\n\ndata: {"token_ids":[6,7]}\n\ndata: [DONE]\n\n'
ASKED = [(proof.IDS_HEADER.encode(), b"apart")]
STREAM, JSON = b"text/event-stream; charset=utf-8", b"application/json"


def answered(headers: list[tuple[bytes, bytes]], kind: bytes, pieces: list[bytes]) -> list[bytes]:
    """The body's messages as they leave."""
    sent: list[dict[str, Any]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def receive() -> Message:
        raise AssertionError("nobody asked for the body")

    async def send(message: Message) -> None:
        sent.append(dict(message))

    scope = {"type": "http", "path": "/v1/completions", "headers": headers}
    asyncio.run(IdsApart(app)(scope, receive, send))
    return [message["body"] for message in sent if message["type"] == "http.response.body"]


@pytest.mark.parametrize("size", [1, 7, 30, 500])
def test_however_the_events_come_their_ids_are_moved(size: int) -> None:
    pieces = [EVENTS[at : at + size] for at in range(0, len(EVENTS), size)]

    assert b"".join(answered(ASKED, STREAM, pieces)) == token_ids.moved(EVENTS)


def test_an_event_is_sent_when_it_is_whole() -> None:
    first, rest = EVENTS[:25], EVENTS[25:]
    assert answered(ASKED, STREAM, [first, rest])[0] == token_ids.moved(first)


def test_an_unfinished_event_at_the_end_is_not_lost() -> None:
    assert b"".join(answered(ASKED, STREAM, [b"data: half"])) == b"data: half"


@pytest.mark.parametrize(("headers", "kind"), [([], STREAM), (ASKED, JSON)])
def test_what_did_not_ask_or_is_no_stream_stays_as_it_is(headers: list[tuple[bytes, bytes]], kind: bytes) -> None:
    assert b"".join(answered(headers, kind, [EVENTS])) == EVENTS
