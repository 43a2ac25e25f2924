"""WebSocket frames (RFC 6455), as far as a relay and a stand-in engine need them: found, looked into, made."""

import base64
import hashlib
from typing import NamedTuple

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
NORMAL, GOING_AWAY, POLICY, BROKEN, TRY_LATER = 1000, 1001, 1008, 1011, 1013
PIECE = -1
"""Instead of an opcode: a part of a frame that is too large to be held."""
HELD_MOST = 64 * 1024

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class BadFrame(ValueError):
    """What comes is no frame."""


class Frame(NamedTuple):
    """One frame as it came, or a piece of a large one."""

    raw: bytes
    opcode: int
    is_final: bool
    start: int
    """Where its payload begins in `raw`."""
    mask: bytes

    @property
    def payload(self) -> bytes:
        """Without its mask."""
        return masked(self.raw[self.start :], self.mask)

    @property
    def is_whole_text(self) -> bool:
        """Whether it is a message by itself."""
        return self.opcode == TEXT and self.is_final


class Splitter:
    """Takes bytes as they come and gives frames back: small ones whole, large ones piece by piece."""

    __slots__ = ("_left", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._left = 0
        """Bytes of a large frame that are still to come."""

    @property
    def is_between_frames(self) -> bool:
        """Whether everything that came was handed on, and ended with a frame."""
        return not self._left and not self._rest

    @property
    def is_inside_large(self) -> bool:
        """Whether a frame was begun to be handed on, and is not at its end."""
        return self._left > 0

    def feed(self, data: bytes) -> list[Frame]:
        """The frames and pieces that are there now; BadFrame where it makes no sense."""
        found: list[Frame] = []
        held, at = self._rest + data, 0
        while at < len(held):
            if self._left:
                piece = held[at : at + self._left]
                self._left -= len(piece)
                at += len(piece)
                found.append(Frame(piece, PIECE, False, 0, b""))
                continue
            head = _head(held, at)
            if head is None:
                break
            opcode, is_final, start, length, mask = head
            end = start + length
            if end <= len(held):
                found.append(Frame(held[at:end], opcode, is_final, start - at, mask))
                at = end
            elif length > HELD_MOST:
                self._left = end - at
            else:
                break
        self._rest = held[at:]
        return found


def frame(opcode: int, payload: bytes, mask: bytes = b"") -> bytes:
    """One final frame; towards a server with a mask of four bytes."""
    flag = 0x80 if mask else 0
    if len(payload) < 126:
        head = bytes((0x80 | opcode, flag | len(payload)))
    elif len(payload) < 65536:
        head = bytes((0x80 | opcode, flag | 126)) + len(payload).to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, flag | 127)) + len(payload).to_bytes(8, "big")
    return head + mask + masked(payload, mask)


def close_frame(code: int, reason: str = "", mask: bytes = b"") -> bytes:
    """The last frame of one side."""
    return frame(CLOSE, code.to_bytes(2, "big") + reason.encode()[:120], mask)


def masked(payload: bytes, mask: bytes) -> bytes:
    """Masked, or unmasked again; as it is without a mask."""
    if not mask:
        return payload
    size = len(payload)
    stretched = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(stretched, "big")).to_bytes(size, "big")


def accept_key(key: bytes) -> bytes:
    """What the server answers to the client's key."""
    return base64.b64encode(hashlib.sha1(key + _GUID).digest())  # noqa: S324  (the RFC wants it; no secret is made)


def is_key(key: bytes) -> bool:
    """Whether it is 16 bytes in base 64."""
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except ValueError:
        return False


def _head(held: bytes, at: int) -> tuple[int, bool, int, int, bytes] | None:
    """Opcode, last part, where the payload begins, its length, the mask; None where more must come first."""
    if len(held) - at < 2:
        return None
    first, second = held[at], held[at + 1]
    if first & 0x70:
        raise BadFrame("an extension that nobody agreed on")
    length, start = second & 0x7F, at + 2
    if length >= 126:
        size = 2 if length == 126 else 8
        if len(held) - start < size:
            return None
        length = int.from_bytes(held[start : start + size], "big")
        start += size
    mask = b""
    if second & 0x80:
        if len(held) - start < 4:
            return None
        mask = held[start : start + 4]
        start += 4
    if first & 0x08 and (length > 125 or not first & 0x80):
        raise BadFrame("a control frame that is too long or not whole")
    return first & 0x0F, bool(first & 0x80), start, length, mask
