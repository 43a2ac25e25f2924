"""Write the simulated model's text: every next token is a pure function of the tokens before it, so that any
continuation by token ids yields exactly the rest of the unbroken run."""

from dataclasses import dataclass
from zlib import crc32

from shoal_serving.simulator.tokenizing import ASSISTANT, END, Tokenizer

_WINDOW = 64
"""How many tokens back the next one looks."""


@dataclass(frozen=True, slots=True)
class Sequence:
    """One written answer. `pieces[i]` is the text that token i completes."""

    tokens: str
    pieces: tuple[str, ...]
    finish_reason: str
    stop_reason: str | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Wish:
    """What ends an answer, beside its length limit."""

    limit: int
    answer_tokens: int
    ignores_end: bool = False
    stops: tuple[str, ...] = ()
    salt: int = 0
    """Tells the choices of one request apart."""


def write(words: Tokenizer, prompt: str, wish: Wish) -> Sequence:
    """The answer to a prompt."""
    tokens, reason = _tokens(words, prompt, wish)
    reader = words.reader()
    pieces = tuple(map(reader.read, tokens))
    if wish.stops:
        return _cut_at_stop(Sequence(tokens, pieces, reason), wish.stops)
    return Sequence(tokens, pieces, reason)


def _tokens(words: Tokenizer, prompt: str, wish: Wish) -> tuple[str, str]:
    window = prompt[-_WINDOW:]
    written: list[str] = []
    count = 0
    left = _until_end(prompt, wish)
    alphabet, size, salt = words.alphabet, len(words.alphabet), wish.salt
    while count < wish.limit:
        if left is not None and count >= left:
            written.append(END)
            return "".join(written), "stop"
        character = alphabet[crc32(window.encode("utf-8", "surrogatepass"), salt) % size]
        window = (window + character)[-_WINDOW:]
        written.append(character)
        count += len(character)
    return "".join(written)[: wish.limit], "length"


def _until_end(prompt: str, wish: Wish) -> int | None:
    """How many tokens are left until the answer ends by itself; None where it never does.

    Only a conversation ends by itself: its last assistant marker tells where the answer began."""
    began = prompt.rfind(ASSISTANT)
    if wish.ignores_end or began < 0:
        return None
    return wish.answer_tokens - (len(prompt) - began - 1)


def _cut_at_stop(sequence: Sequence, stops: tuple[str, ...]) -> Sequence:
    text = sequence.text
    places = [(text.find(stop) + len(stop), stop) for stop in stops if stop and stop in text]
    if not places:
        return sequence
    end, stop = min(places)
    kept, pieces = end - len(stop), []
    seen = 0
    for piece in sequence.pieces:
        pieces.append(piece[: max(0, kept - seen)])
        seen += len(piece)
        if seen >= end:
            break
    return Sequence(sequence.tokens[: len(pieces)], tuple(pieces), "stop", stop)
