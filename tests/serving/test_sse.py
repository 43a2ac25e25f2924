"""Whole events only, wherever the stream is cut; errors are found at event starts and nowhere else."""

import json
import random

import pytest

from shoal_serving.gateway import sse

LF = b'data: {"a": 1}\n\n: note\n\ndata: {"b": "\\n\\n"}\n\ndata: [DONE]\n\n'
STREAMS = [
    LF,
    LF.replace(b"\n", b"\r\n"),
    LF.replace(b"\n", b"\r") + b"data: last\r\r: x",
    b"event: x\r\ndata: 1\r\n\r\n",
]


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64])
def test_what_comes_out_is_whole_events_and_nothing_is_lost(stream: bytes, size: int) -> None:
    splitter = sse.Splitter()
    whole = [splitter.feed(stream[at : at + size]) for at in range(0, len(stream), size)]
    assert b"".join(whole) + splitter.rest == stream
    so_far = b""
    for piece in whole:
        so_far += piece
        assert not so_far or so_far.endswith((b"\n\n", b"\r\n\r\n", b"\r\r"))


def test_random_cuts_never_leave_half_an_event() -> None:
    chance = random.Random(7)
    for _ in range(300):
        stream = b"".join(b"data: %d%b" % (n, chance.choice([b"\n\n", b"\r\n\r\n"])) for n in range(9))
        splitter, at, out = sse.Splitter(), 0, b""
        while at < len(stream):
            size = chance.randrange(1, 9)
            out += splitter.feed(stream[at : at + size])
            at += size
            assert sse.split(out) == sse.split(stream)[: len(sse.split(out))]
        assert out == stream


def test_an_event_without_an_end_is_refused_at_its_limit() -> None:
    splitter = sse.Splitter()
    splitter.feed(b"x" * sse.EVENT_LIMIT)
    with pytest.raises(sse.EventTooLarge):
        splitter.feed(b"x")


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b"data: x\n\n", b"x"),
        (b"data:x\r\n\r\n", b"x"),
        (b": comment\n\n", None),
        (b"event: ping\n\n", None),
        (b"event: a\ndata: 1\ndata: 2\n\n", b"1\n2"),
    ],
)
def test_the_data_of_an_event(event: bytes, data: bytes | None) -> None:
    assert sse.data_of(event) == data


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"error": {"message": "m", "code": 500}}\n\n',
        b'data:{"error":"text"}\n\n',
        b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"m"}}\n\n',
        b'event: error\r\ndata: {"type":"error","code":"x","message":"m"}\r\n\r\n',
        b"event: error\ndata: not json\n\n",
    ],
)
def test_error_events_are_known_in_every_dialect(event: bytes) -> None:
    assert sse.error_in(event) is not None
    assert sse.may_hold_error(b'data: {"ok": 1}\n\n' + event)


@pytest.mark.parametrize(
    "event",
    [
        b"data: [DONE]\n\n",
        b'data: {"choices": [{"delta": {"content": "error"}}]}\n\n',
        b'data: {"choices": [{"delta": {"content": "' + json.dumps('{"error": 1}')[1:-1].encode() + b'"}}]}\n\n',
        b'data: {"choices": [], "error": null}\n\n',
        b'event: response.created\ndata: {"type": "response.created", "response": {"error": null}}\n\n',
        b'data: {"choices": [{"delta": {"content": "event: error"}}]}\n\n',
        b": error\n\n",
    ],
)
def test_talk_about_errors_is_no_error(event: bytes) -> None:
    assert sse.error_in(event) is None
