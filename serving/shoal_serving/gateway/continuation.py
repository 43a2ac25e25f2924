"""Decide whether a stream could be continued exactly at another replica, and ask the engine for what that takes."""

import json
from collections.abc import Mapping
from typing import Any, Final

from shoal_serving.gateway.transcript import CHAT, COMPLETIONS, Transcript, Wish

_MUST_BE_UNSET = (
    *("tools", "functions", "structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar"),
    *("top_logprobs", "logprob_token_ids", "echo", "stop", "bad_words", "presence_penalty", "frequency_penalty"),
    *("min_tokens", "best_of", "use_beam_search", "prompt_embeds", "audio", "suffix", "return_token_ids"),
    *("return_tokens_as_token_ids", "kv_transfer_params", "ec_transfer_params", "vllm_xargs", "watermarking"),
    *("repetition_detection", "thinking_token_budget"),
)
"""Fields that depend on more than the ids so far, or ask for more than text. 0, false, [] and null are unset."""
_EVEN_ZERO_IS_SET = ("seed", "logprobs", "prompt_logprobs", "truncate_prompt_tokens")
_LOOKED_AT: Final = frozenset(
    (
        *_MUST_BE_UNSET,
        *_EVEN_ZERO_IS_SET,
        *("n", "include_reasoning", "spaces_between_special_tokens", "response_format", "stream_options"),
    )
)

_KEPT_BYTES: Final = 16 * 1024


def why_not(path: str, body: dict[str, Any]) -> str:
    """Why the stream that this body asks for cannot be continued exactly; `""` where it can."""
    if path not in (CHAT, COMPLETIONS) or body.get("stream") is not True:
        return "only streams of chat and completions are continued"
    # Most requests have none of these fields, and to ask for each of them takes longer than to answer.
    if not _LOOKED_AT.isdisjoint(body) and (because := _why_fields_forbid(body)):
        return because
    if path == COMPLETIONS:
        return "" if isinstance(body.get("prompt"), str) else "the prompt is not one text"
    return "" if _is_text_only(body.get("messages")) else "a message has parts that are not text"


def _why_fields_forbid(body: Mapping[str, Any]) -> str:
    if body.get("n") not in (None, 1):
        return "more than one choice"
    if body.get("include_reasoning") is False:
        return "the engine may leave ids out where it hides reasoning"
    if body.get("spaces_between_special_tokens") is False:
        return "the engine's text depends on more than the ids"
    for field in _MUST_BE_UNSET:
        if body.get(field):
            return f"`{field}` is set"
    for field in _EVEN_ZERO_IS_SET:
        if body.get(field) is not None and body[field] is not False:
            return f"`{field}` is set"
    response_format = body.get("response_format")
    if response_format and not (isinstance(response_format, dict) and response_format.get("type") == "text"):
        return "`response_format` is not text"
    options = body.get("stream_options")
    if isinstance(options, dict) and options.get("continuous_usage_stats"):
        return "usage in every event"
    return ""


def _is_text_only(messages: object) -> bool:
    if not isinstance(messages, list):
        return False
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            if not all(isinstance(part, dict) and part.get("type") == "text" for part in content):
                return False
        elif content is not None and not isinstance(content, str):
            return False
    return True


def begin(path: str, fields: dict[str, Any], body: bytes, served_name: str) -> Transcript | None:
    """The transcript of the stream that a request begins; None where it cannot be continued exactly."""
    if why_not(path, fields):
        return None
    wish = Wish.of(path, fields)
    wish.sampling["model"] = served_name
    # What is kept must be small; the prompt, which may be large, is not part of it.
    if len(body) > _KEPT_BYTES and len(json.dumps(wish.sampling)) > _KEPT_BYTES:
        return None
    return Transcript(wish)


def asking_for_ids(body: bytes) -> bytes:
    """The body of an eligible request, asking for token ids; its other bytes stay as they are."""
    end = body.rstrip()
    return end[:-1] + b',"return_token_ids":true}'
