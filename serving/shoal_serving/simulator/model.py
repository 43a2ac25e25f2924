"""The simulated model: its names, its tokenizer, and the parts of an answer that all its APIs share."""

from dataclasses import dataclass, field
from json.encoder import encode_basestring
from zlib import crc32

from shoal_serving.simulator.checking import Body, check_length, check_sampling, is_true, number
from shoal_serving.simulator.knobs import Knobs
from shoal_serving.simulator.tokenizing import Tokenizer, tokenizer
from shoal_serving.simulator.vllm_errors import Surface, invalid
from shoal_serving.simulator.writing import Sequence, Wish, write

VERSION = "0.32.0"
MOST_TOKENS = 2_000_000
"""Answers are planned whole before they are sent: one request must not fill the memory."""

quote = encode_basestring
"""A text as JSON; unlike json.dumps it leaves characters outside ASCII as they are, as vLLM does."""


@dataclass(slots=True)
class Model:
    """What every API asks about the model."""

    served: str
    root: str
    knobs: Knobs
    words: Tokenizer = field(init=False)

    def __post_init__(self) -> None:
        self.words = tokenizer(self.knobs.tokenizer)

    @property
    def asked_for(self) -> str | None:
        """The name that requests must have; None where any will do."""
        return None if self.knobs.any_model else self.served

    @property
    def fingerprint(self) -> str:
        return f"vllm-{VERSION}-{crc32(self.root.encode()):08x}"

    def write(self, prompts: list[str], body: Body, limit: int | None, surface: Surface = "openai") -> list[Sequence]:
        """The answers to these prompts, `n` for each, after vLLM's checks of lengths and sampling."""
        longest, most = max(map(len, prompts)), self.knobs.max_model_len
        check_length(longest, most, surface)
        check_sampling(body, limit, most, surface)
        given = body.get("stop", body.get("stop_sequences")) or ()
        stops = (given,) if isinstance(given, str) else tuple(map(str, given))
        ignores_end, count = is_true(body, "ignore_eos"), int(number(body, "n") or 1)
        if count * len(prompts) * (most if limit is None and ignores_end else limit or 1) > MOST_TOKENS:
            raise invalid(f"the simulator writes at most {MOST_TOKENS} tokens for one request.", "n", surface)
        return [
            write(
                self.words,
                prompt,
                Wish(
                    limit=min(most - len(prompt), most if limit is None else limit),
                    answer_tokens=self.knobs.answer_tokens,
                    ignores_end=ignores_end,
                    stops=stops,
                    salt=choice,
                ),
            )
            for prompt in prompts
            for choice in range(count)
        ]


def wants_usage(body: Body) -> tuple[bool, bool]:
    """Whether the stream ends with its usage, and whether every event carries it."""
    options = body.get("stream_options")
    if not isinstance(options, dict) or not options.get("include_usage"):
        return False, False
    return True, bool(options.get("continuous_usage_stats"))


def ids_text(tokens: str) -> str:
    """The ids as JSON."""
    return "[" + ",".join(map(str, map(ord, tokens))) + "]"


def usage_text(prompt: int, completion: int, rest: str = "") -> str:
    total = prompt + completion
    return f'{{"prompt_tokens":{prompt},"total_tokens":{total},"completion_tokens":{completion}{rest}}}'


def optional(value: str | None) -> str:
    """A JSON string or null."""
    return "null" if value is None else quote(value)


def step_count(sequences: list[Sequence]) -> int:
    return max(1, *(len(sequence.tokens) for sequence in sequences))
