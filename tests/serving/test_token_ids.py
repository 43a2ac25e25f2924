"""Ids are taken out of events, and nothing else: by Python, and by C where this is a compiled wheel."""

import random
from collections.abc import Callable

import pytest

from shoal_serving.gateway import token_ids

EVENT = b'data: {"choices":[{"delta":{"content":"a"},"token_ids":%b}]}\n\n'
FIRST = b'data: {"choices":[{"delta":{}}],"prompt_token_ids":%b}\n\n'
TABLE = [
    (EVENT % b"[7]", EVENT % b"null", b"7,", b""),
    (EVENT % b"[7,8, 9]", EVENT % b"null", b"7,8, 9,", b""),
    (EVENT % b"[]", EVENT % b"null", b",", b""),
    (EVENT % b"[7]" + EVENT % b"[8]" + EVENT % b"[]", (EVENT % b"null") * 3, b"7,8,,", b""),
    (FIRST % b"[4,5]", FIRST % b"null", b"", b"4,5,"),
    (FIRST % b"[4,5]" + EVENT % b"[7]", FIRST % b"null" + EVENT % b"null", b"7,", b"4,5,"),
    *(
        (events, events, b"", b"")
        for events in (
            b"",
            b"[",
            b'token_ids":[1]',
            b": a comment [1]\n\n",
            b"data: [DONE]\n\n",
            EVENT % b"null",
            EVENT % b'["7"]',
            EVENT % b"[[7]]",
            EVENT % b"[-7]",
            EVENT % b"[7",
            b'data: {"token_ids":[7',
            b'data: {"token_ids":[',
            b'data: {"stop_token_ids":[7]}\n\n',
            b'data: {"text":"\\"token_ids\\":[7]"}\n\n',
        )
    ),
    (b'{"token_ids":[x"token_ids":[7]', b'{"token_ids":[x"token_ids":null', b"7,", b""),
    (b'{"token_ids":["token_ids":[7]', b'{"token_ids":["token_ids":null', b"7,", b""),
]


@pytest.mark.parametrize("cut_out", [token_ids.cut_out_by_python, token_ids.cut_out], ids=["python", "as built"])
@pytest.mark.parametrize(("events", "shown", "ids", "prompt"), TABLE)
def test_ids_are_taken_out_and_nothing_else(
    cut_out: Callable[[bytes], tuple[bytes, bytes, bytes]], events: bytes, shown: bytes, ids: bytes, prompt: bytes
) -> None:
    assert cut_out(events) == (shown, ids, prompt)


@pytest.mark.parametrize("size", range(len(EVENT) + 8))
def test_an_event_that_is_cut_anywhere_is_read_no_further(size: int) -> None:
    events = (EVENT % b"[12345]")[:size]

    assert token_ids.cut_out(events) == token_ids.cut_out_by_python(events)


def test_c_and_python_agree_on_whatever_comes() -> None:
    drawn = random.Random(7)
    pieces = (
        b'"token_ids":[',
        b'"prompt_token_ids":[',
        b'token_ids":[',
        b'"prompt_',
        b'"',
        b"[",
        b"]",
        b"1,2",
        b" ",
        b"x",
    )
    for _ in range(5_000):
        events = b"".join(drawn.choices(pieces, k=drawn.randrange(12)))
        assert token_ids.cut_out(events) == token_ids.cut_out_by_python(events), events
