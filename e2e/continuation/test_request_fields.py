"""Every field that the engine's requests have is judged: a newer engine may bring one that a continuation cannot keep.

Needs SHOAL_ENGINE_PYTHON; `make e2e` sets it.
"""

import json
import os
import subprocess
from typing import Any

from shoal_serving.gateway import continuation
from shoal_serving.gateway.transcript import CHAT, COMPLETIONS

FIELDS = """
import json
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
print(json.dumps([sorted(ChatCompletionRequest.model_fields), sorted(CompletionRequest.model_fields)]))
"""
THE_REQUEST = {"model", "messages", "prompt", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n"}
MAKES_THE_PROMPT = {
    *("chat_template", "chat_template_kwargs", "add_generation_prompt", "continue_final_message", "documents"),
    *("add_special_tokens", "reasoning_effort", "include_reasoning", "media_io_kwargs", "mm_processor_kwargs"),
    "truncation_side",
}
"""The rest is asked for with the prompt's ids: what made them is over."""
EACH_TOKEN_ALONE = {
    *("temperature", "top_p", "top_k", "min_p", "logit_bias", "allowed_token_ids", "repetition_penalty"),
    *("stop_token_ids", "ignore_eos", "include_stop_str_in_output", "skip_special_tokens", "length_penalty"),
    "spaces_between_special_tokens",
}
"""How a token is chosen and shown from the ids before it, those of the prompt among them."""
SAYS_NOTHING_OF_THE_ANSWER = {
    *("user", "priority", "request_id", "session_id", "cache_salt", "stream_interval", "tool_choice"),
    *("parallel_tool_calls", "routed_experts_prompt_start", "return_token_offsets", "return_prompt_text"),
    *("return_mm_kwargs", "mm_payload"),
}
HARMLESS = THE_REQUEST | MAKES_THE_PROMPT | EACH_TOKEN_ALONE | SAYS_NOTHING_OF_THE_ANSWER


def test_a_field_of_the_engine_is_either_harmless_or_keeps_the_stream_from_being_continued() -> None:
    told = subprocess.run(
        [os.environ["SHOAL_ENGINE_PYTHON"], "-c", FIELDS], capture_output=True, text=True, check=True
    ).stdout
    chat, text = json.loads(told.splitlines()[-1])
    bodies: list[tuple[str, dict[str, Any], list[str]]] = [
        (CHAT, {"stream": True, "messages": []}, chat),
        (COMPLETIONS, {"stream": True, "prompt": ""}, text),
    ]
    for path, body, fields in bodies:
        unjudged = [
            field for field in fields if field not in HARMLESS and not continuation.why_not(path, {**body, field: 1})
        ]
        assert unjudged == [], f"{path}: add these to the table in continuation.py, or here if they are harmless"
