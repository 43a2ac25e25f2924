"""The knobs of a simulated engine, and how they are read from flags, engine arguments and the control path."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal, get_args

FLAG_PREFIX = "--simulate-"

Tokenizer = Literal["ascii", "bytes"]
FailingStage = Literal["", "Ray", "Imports", "Engine", "SelfTest"]


class BadKnob(ValueError):
    """A knob that does not exist or a value that it cannot take; the text is one sentence."""


@dataclass(frozen=True, slots=True)
class Knobs:
    """How the simulated engine behaves. Times are seconds; 0 means none."""

    first_token_seconds: float = 0.0
    first_token_seconds_per_token: float = 0.0
    """Added for each prompt token that the prefix cache does not hold."""
    gap_seconds: float = 0.0
    gap_seconds_per_running: float = 0.0
    """Added to each gap for every sequence that runs."""
    answer_tokens: int = 16
    """After so many tokens a chat answer ends by itself (finish_reason stop)."""
    max_running: int = 256
    max_queued: int = 0
    """Running and waiting sequences at most; over it requests are refused. 0 means no limit."""
    refuse_in_stream: bool = False
    """A stream is refused by an error event in a 200, as vLLM does when requests race for the last place."""
    kv_blocks: int = 0
    """0 means no bound and no prefix cache."""
    block_tokens: int = 16
    max_model_len: int = 32768
    tokenizer: Tokenizer = "ascii"
    embeds: bool = False
    """The model makes embeddings instead of text."""
    embedding_size: int = 384
    calls_tools: bool = False
    """A chat that brings tools is answered by a call of the first, as an engine with a tool parser may."""
    ray_seconds: float = 0.0
    imports_seconds: float = 0.0
    engine_seconds: float = 0.0
    self_test_seconds: float = 0.0
    fail_at: FailingStage = ""
    fail_sentence: str = "the simulated engine was told to fail here"
    fail_permanently: bool = False
    dying_seconds: float = 0.15
    """From the death of the engine to the end of the process; meanwhile requests get 500 and /health 503."""
    keep_alive_seconds: float = 5.0
    """Idle connections are closed after so long, as vLLM's server does."""
    header_faults: bool = False
    """Requests may bring their own fault in the header x-simulate."""
    any_model: bool = False
    """Requests for a model of any name are answered; a replica's engine does that, whose gateways have looked."""
    log_size: int = 10000
    faults: str = ""
    """Faults in force from the start, as the control path takes them (JSON)."""


_KINDS = {field.name: field.type for field in fields(Knobs)}
_CHOICES = {"tokenizer": get_args(Tokenizer), "fail_at": get_args(FailingStage)}
_TRUTH = {"true": True, "1": True, "": True, "false": False, "0": False}

# vLLM's own flags that say the same as a knob.
_VLLM_FLAGS = {
    "--max-model-len": "max_model_len",
    "--max-num-seqs": "max_running",
    "--max-num-queued-reqs": "max_queued",
    "--num-gpu-blocks-override": "kv_blocks",
    "--block-size": "block_tokens",
    "--enable-auto-tool-choice": "calls_tools",
}


def turned(knobs: Knobs, settings: Mapping[str, object]) -> Knobs:
    """The knobs with these turned; names with dashes or underscores, values as text or already typed."""
    values: dict[str, object] = {}
    for given, value in settings.items():
        name = given.replace("-", "_")
        if name not in _KINDS:
            raise BadKnob(f"there is no knob {given}; there are {', '.join(sorted(_KINDS)).replace('_', '-')}")
        values[name] = _typed(given, name, value)
    return replace(knobs, **values)  # type: ignore[arg-type]


def from_flags(knobs: Knobs, flags: Iterable[str]) -> Knobs:
    """The knobs turned by `key=value` texts."""
    settings = {}
    for flag in flags:
        key, equals, value = flag.partition("=")
        if not equals:
            raise BadKnob(f"--simulate {flag} must be of the form key=value")
        settings[key] = value
    return turned(knobs, settings)


def from_engine_args(knobs: Knobs, args: list[str]) -> Knobs:
    """The knobs turned by `--simulate-key value` and by vLLM's flags that mean a knob; the rest is passed over."""
    settings: dict[str, object] = {}
    waiting = [*args]
    while waiting:
        flag, equals, value = waiting.pop(0).partition("=")
        spelled = "--" + flag.removeprefix("--").replace("_", "-") if flag.startswith("--") else flag
        key = spelled.removeprefix(FLAG_PREFIX) if spelled.startswith(FLAG_PREFIX) else _VLLM_FLAGS.get(spelled)
        if key is None:
            continue
        if not equals and waiting and not waiting[0].startswith("--"):
            value = waiting.pop(0)
        settings[key] = value
    return turned(knobs, settings)


def _typed(given: str, name: str, value: object) -> object:
    kind = _KINDS[name]
    if name in _CHOICES:
        if value not in _CHOICES[name]:
            raise BadKnob(f"{given} must be one of {', '.join(_CHOICES[name])}, not {value}")
        return value
    if kind is bool:
        truth = value if isinstance(value, bool) else _TRUTH.get(str(value).lower())
        if truth is None:
            raise BadKnob(f"{given} must be true or false, not {value}")
        return truth
    if kind is str:
        return str(value)
    try:
        number = float(str(value)) if kind is float else int(str(value))
    except ValueError:
        raise BadKnob(f"{given} must be a number, not {value}") from None
    if number < 0:
        raise BadKnob(f"{given} must not be negative, but it is {value}")
    return number
