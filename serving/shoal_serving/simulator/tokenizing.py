"""Turn text into tokens and back. Token ids are held as text, one character `chr(id)` per token: quick to slice."""

import codecs
import re
from collections.abc import Iterable
from typing import Any, Protocol

BEGIN, END, SYSTEM, USER, ASSISTANT, TOOL = map(chr, range(1, 7))
"""The special tokens; they decode to nothing."""

_ROLES = {"system": SYSTEM, "developer": SYSTEM, "user": USER, "assistant": ASSISTANT, "tool": TOOL, "function": TOOL}
_SPECIALS = "\x00\x01\x02\x03\x04\x05\x06"
_SPECIAL = re.compile(f"[{_SPECIALS}]")
_FIRST_BYTE_ID = 256


class TokenReader(Protocol):
    """Decodes tokens one by one, as a stream shows them."""

    def read(self, token: str) -> str:
        """The text that this token completes; empty inside a character and for special tokens."""


class Tokenizer(Protocol):
    """A deterministic tokenizer."""

    alphabet: tuple[str, ...]
    """The characters that the simulated model writes, each as its tokens."""
    size: int
    """How many ids there are."""

    def encode(self, text: str) -> str: ...
    def decode(self, tokens: str) -> str: ...
    def reader(self) -> TokenReader: ...
    def whole(self, tokens: str) -> str:
        """The tokens without trailing ones that end inside a character."""


class CharacterTokenizer:
    """One token per character; the id is the code point."""

    alphabet = tuple("etaoin shrdlu ETAOIN SHRDLU cmfwyp vbgkjqxz .,:;-!? 0123456789()")
    size = 0x110000

    def encode(self, text: str) -> str:
        # One after the other: in a long prompt a pattern takes fifty times as long.
        for special in _SPECIALS:
            text = text.replace(special, " ")
        return text

    def decode(self, tokens: str) -> str:
        return _SPECIAL.sub("", tokens)

    def reader(self) -> TokenReader:
        return _CharacterReader()

    def whole(self, tokens: str) -> str:
        return tokens


class _CharacterReader:
    def read(self, token: str) -> str:
        return "" if token <= TOOL else token


class ByteTokenizer:
    """One token per byte of UTF-8, so that a character can take up to four."""

    size = _FIRST_BYTE_ID + 256

    def __init__(self) -> None:
        self.alphabet = tuple(self.encode(character) for character in "e aé日nö語ß🌊 😀s字ü🐟t ")

    def encode(self, text: str) -> str:
        return text.encode(errors="surrogatepass").decode("latin-1").translate(_UP)

    def decode(self, tokens: str) -> str:
        return _bytes(tokens).decode(errors="replace")

    def reader(self) -> TokenReader:
        return _ByteReader()

    def whole(self, tokens: str) -> str:
        for length in range(1, min(4, len(tokens) + 1)):
            byte = ord(tokens[-length]) - _FIRST_BYTE_ID
            if not 0x80 <= byte < 0xC0:  # not a continuation byte: here the last character begins
                needed = 1 if byte < 0xC0 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
                return tokens[:-length] if needed > length else tokens
        return tokens


class _ByteReader:
    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def read(self, token: str) -> str:
        return self._decoder.decode(_bytes(token))


_UP = {byte: _FIRST_BYTE_ID + byte for byte in range(256)}


def _bytes(tokens: str) -> bytes:
    return bytes(ord(token) - _FIRST_BYTE_ID for token in tokens if ord(token) >= _FIRST_BYTE_ID)


def tokenizer(kind: str) -> Tokenizer:
    return ByteTokenizer() if kind == "bytes" else CharacterTokenizer()


def from_ids(ids: Iterable[int]) -> str:
    return "".join(map(chr, ids))


def to_ids(tokens: str) -> list[int]:
    return [ord(token) for token in tokens]


def chat(words: Tokenizer, messages: list[dict[str, Any]], opens_answer: bool) -> str:
    """The tokens of a conversation: each role's marker, then its text."""
    parts = []
    for message in messages:
        parts.append(_ROLES.get(str(message.get("role")), USER))
        parts.append(words.encode(content_text(message.get("content"))))
    if opens_answer:
        parts.append(ASSISTANT)
    return "".join(parts)


def content_text(content: object) -> str:
    """The text of a message's content: itself, or its text parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") if isinstance(part, dict) else str(part) for part in content)
    return ""
