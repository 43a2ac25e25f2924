"""WebSocket frames are found wherever the bytes are cut, and what is made is what is found."""

import os

import pytest

from shoal_serving import websocket
from shoal_serving.websocket import HELD_MOST, PIECE, BadFrame, Splitter, frame, masked

MASK = b"\x01\x02\x03\x04"


@pytest.mark.parametrize("size", [0, 1, 5, 125, 126, 1000, 65_535, 65_536])
@pytest.mark.parametrize("mask", [b"", MASK])
def test_a_frame_is_found_as_it_was_made(size: int, mask: bytes) -> None:
    payload = os.urandom(size)
    (found,) = Splitter().feed(frame(websocket.TEXT, payload, mask))
    assert (found.opcode, found.is_whole_text, found.payload) == (websocket.TEXT, True, payload)


@pytest.mark.parametrize("step", [1, 2, 3, 7])
def test_frames_are_whole_wherever_the_bytes_are_cut(step: int) -> None:
    payloads = [b"", b"one", b"x" * 300, b"three"]
    data = b"".join(frame(websocket.TEXT, payload, MASK) for payload in payloads)
    splitter = Splitter()
    found = [each for at in range(0, len(data), step) for each in splitter.feed(data[at : at + step])]
    assert [each.payload for each in found] == payloads
    assert splitter.is_between_frames


def test_a_large_frame_passes_in_pieces_and_is_never_held() -> None:
    data = frame(websocket.TEXT, b"y" * (HELD_MOST * 3)) + frame(websocket.TEXT, b"after")
    splitter = Splitter()
    found = []
    for at in range(0, len(data), 1000):
        found += splitter.feed(data[at : at + 1000])
        assert sum(len(each.raw) for each in found) >= min(at + 1000, HELD_MOST * 3) - 16
    assert b"".join(each.raw for each in found) == data
    assert {each.opcode for each in found[:-1]} == {PIECE}
    assert found[-1].payload == b"after"


@pytest.mark.parametrize(
    "data",
    [b"\xc1\x00", b"\x88\x7e\x01\x00", b"\x09\x00"],
    ids=["an extension", "a long control frame", "a control frame in parts"],
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(BadFrame):
        Splitter().feed(data)


def test_a_mask_undoes_itself() -> None:
    assert masked(masked(b"hello there", MASK), MASK) == b"hello there"
    assert masked(b"\x00\x00\x00\x00\x00", MASK) == MASK + MASK[:1]


def test_the_answer_to_a_key_is_the_one_of_the_rfc() -> None:
    assert websocket.accept_key(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert websocket.is_key(b"dGhlIHNhbXBsZSBub25jZQ==")
    assert not websocket.is_key(b"short")
