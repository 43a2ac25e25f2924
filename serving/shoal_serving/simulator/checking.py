"""Check the body of a request as vLLM does: the same mistakes are found, in the same words."""

import json
from collections.abc import Mapping
from typing import Any

from shoal_serving.simulator.vllm_errors import Flaw, Surface, flawed, invalid, unknown_model

Body = dict[str, Any]

_TRUE = (True, 1, "true", "True", "1", "yes", "on", "t", "y")
_FALSE = (False, 0, "false", "False", "0", "no", "off", "f", "n")
_NUMBER_FIELDS: dict[str, type] = {
    "frequency_penalty": float,
    "max_completion_tokens": int,
    "max_tokens": int,
    "n": int,
    "presence_penalty": float,
    "seed": int,
    "temperature": float,
    "top_p": float,
    "max_output_tokens": int,
}
_TRUTH_FIELDS = ("stream", "ignore_eos", "return_token_ids", "echo", "add_generation_prompt", "continue_final_message")


def parse(body: bytes) -> Body:
    """The body as an object, whatever its fields."""
    if not body:
        raise flawed([_missing("body", None)])
    try:
        value = json.loads(body)
    except UnicodeDecodeError as error:
        raise flawed([Flaw("json_invalid", "body.0", "JSON decode error", {}, error.reason)]) from error
    except json.JSONDecodeError as error:
        raise flawed([Flaw("json_invalid", f"body.{error.pos}", "JSON decode error", {}, error.msg)]) from error
    if value is None:
        raise flawed([_missing("body", None)])
    if not isinstance(value, dict):
        message = "Input should be a valid dictionary or object to extract fields from"
        raise flawed([Flaw("model_attributes_type", "body", message, value)])
    return value


def check(body: Body, required: Mapping[str, type | None], surface: Surface, asked_for: str | None) -> None:
    """Types of the fields, then the model's name. `required`: the fields that must be there, with a type or None."""
    flaws = []
    for name, kind in required.items():
        if name not in body:
            flaws.append(_missing(f"body.{name}", body))
        elif kind is list and not isinstance(body[name], list):
            flaws.append(Flaw("list_type", f"body.{name}", "Input should be a valid list", body[name]))
    for name, kind in _NUMBER_FIELDS.items():
        flaws.extend(_number_flaws(name, kind, body.get(name)))
    for name in _TRUTH_FIELDS:
        flaws.extend(_truth_flaws(name, body.get(name)))
    if flaws:
        raise flawed(flaws)
    if body.get("stream_options") and not is_true(body, "stream") and surface == "openai":
        raise invalid("Stream options can only be defined when `stream=True`.", "stream_options")
    model = body.get("model")
    if model is not None and asked_for is not None and model != asked_for:
        raise unknown_model(str(model), asked_for, surface)


def is_true(body: Body, name: str) -> bool:
    value = body.get(name)
    return value is not None and value in _TRUE


def number(body: Body, name: str) -> float | None:
    value = body.get(name)
    return None if value is None else float(value)


def check_sampling(body: Body, limit: int | None, max_model_len: int, surface: Surface) -> None:
    """What vLLM checks of the sampling parameters after it has rendered the prompt."""
    temperature, top_p, count = number(body, "temperature"), number(body, "top_p"), number(body, "n")
    if limit is not None and limit > max_model_len:
        sentence = f"max_tokens={limit} cannot be greater than max_model_len={max_model_len}."
        raise invalid(f"{sentence} Please request fewer output tokens.", "max_tokens", surface, limit)
    if count is not None and count < 1:
        raise invalid(f"n must be at least 1, got {int(count)}.", None, surface)
    if temperature is not None and temperature < 0:
        raise invalid(f"temperature must be non-negative, got {temperature}.", "temperature", surface, temperature)
    if temperature is not None and temperature > 2:
        raise invalid(f"temperature must be in [0, 2], got {temperature}.", "temperature", surface, temperature)
    if top_p is not None and not 0 < top_p <= 1:
        raise invalid(f"top_p must be in (0, 1], got {top_p}.", "top_p", surface, top_p)
    if limit is not None and limit < 1:
        raise invalid(f"max_tokens must be at least 1, got {limit}.", "max_tokens", surface, limit)
    if temperature == 0 and count is not None and count > 1:
        raise invalid(f"n must be 1 when using greedy sampling, got {int(count)}.", None, surface)


def check_length(tokens: int, max_model_len: int, surface: Surface) -> None:
    """vLLM reads no further than one token over its limit."""
    if tokens > max_model_len:
        raise invalid(
            f"This model's maximum context length is {max_model_len} tokens. However, your prompt contains at least "
            f"{max_model_len + 1} input tokens, which exceeds this limit even without any output tokens. Please reduce "
            "the length of the input prompt.",
            "input_tokens",
            surface,
            max_model_len + 1,
        )


def _missing(where: str, given: object) -> Flaw:
    return Flaw("missing", where, "Field required", given)


def _number_flaws(name: str, kind: type, value: object) -> list[Flaw]:
    if value is None or isinstance(value, bool | int) or (kind is float and isinstance(value, float)):
        return []
    where, word = f"body.{name}", "integer" if kind is int else "number"
    short = "int" if kind is int else "float"
    if isinstance(value, str):
        try:
            kind(value)
        except ValueError:
            message = f"Input should be a valid {word}, unable to parse string as {'an' if kind is int else 'a'} {word}"
            return [Flaw(f"{short}_parsing", where, message, value)]
        return []
    if isinstance(value, float):
        if value.is_integer():
            return []
        message = "Input should be a valid integer, got a number with a fractional part"
        return [Flaw("int_from_float", where, message, value)]
    return [Flaw(f"{short}_type", where, f"Input should be a valid {word}", value)]


def _truth_flaws(name: str, value: object) -> list[Flaw]:
    if value is None or isinstance(value, bool):
        return []
    if isinstance(value, str | int) and (value in _TRUE or value in _FALSE):
        return []
    if isinstance(value, str | int):
        message = "Input should be a valid boolean, unable to interpret input"
        return [Flaw("bool_parsing", f"body.{name}", message, value)]
    return [Flaw("bool_type", f"body.{name}", "Input should be a valid boolean", value)]
