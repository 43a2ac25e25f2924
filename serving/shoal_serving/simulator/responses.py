"""The Responses API as vLLM answers it: typed events, no [DONE]."""

import json
from collections.abc import Iterator
from typing import Any

from shoal_serving.simulator.checking import Body, check, is_true, number
from shoal_serving.simulator.model import Model, step_count
from shoal_serving.simulator.planning import CREATED, ID, Plan
from shoal_serving.simulator.tokenizing import chat

_SECOND = "\x02"
"""Stands where a number goes that json.dumps would put between quotes."""


def plan(body: Body, model: Model) -> Plan:
    # vLLM has put the request's id into the body when it checks it, and counts it in what it says was given.
    check({**body, "request_id": None}, {"input": None}, "openai", model.asked_for)
    given = body["input"]
    messages = [{"role": "user", "content": given}] if isinstance(given, str) else [*given]
    if body.get("instructions"):
        messages.insert(0, {"role": "system", "content": body["instructions"]})
    prompt = chat(model.words, messages, opens_answer=True)
    limit = number(body, "max_output_tokens")
    (sequence,) = model.write([prompt], {**body, "n": None}, None if limit is None else int(limit))
    streams = is_true(body, "stream")
    answer = Plan(
        prompt=prompt,
        streams=streams,
        tokens=len(sequence.tokens),
        longest=step_count([sequence]),
        finish_reasons=(sequence.finish_reason,),
        takes_client_id=False,
        dying=None,  # vLLM 0.32 ends such a stream in the middle of the transfer
    )
    final = _response(body, model, prompt, sequence.text, sequence.finish_reason, answer.tokens)
    if not streams:
        answer.body = _text(final)
        return answer
    events = _Events()
    begun = _response(body, model, prompt, "", "", 0)
    answer.opening = (
        events.text("response.created", response=begun),
        events.text("response.in_progress", response=begun),
    )
    answer.steps = tuple(map(tuple, _steps(events, sequence.pieces, final)))
    return answer


def _steps(events: "_Events", pieces: tuple[str, ...], final: dict[str, Any]) -> Iterator[list[str]]:
    text, item_id = "".join(pieces), f"msg_{ID}"
    place = {"output_index": 0, "content_index": 0, "item_id": item_id}
    for at, piece in enumerate(pieces):
        step = []
        if at == 0:
            item = {"id": item_id, "content": [], "role": "assistant", "status": "in_progress", "type": "message"}
            step.append(events.text("response.output_item.added", output_index=0, item={**item, "phase": None}))
            part = {"annotations": [], "text": "", "type": "output_text", "logprobs": []}
            step.append(events.text("response.content_part.added", part=part, **place))
        if piece:
            step.append(events.text("response.output_text.delta", delta=piece, logprobs=[], **place))
        if at == len(pieces) - 1:
            step.append(events.text("response.output_text.done", text=text, logprobs=[], **place))
            step.append(events.text("response.content_part.done", part=_part(text), **place))
            step.append(events.text("response.output_item.done", output_index=0, item=_item(text)))
            step.append(events.text("response.completed", response=final))
        yield step


class _Events:
    """Numbers the events of one stream."""

    def __init__(self) -> None:
        self._number = 0

    def text(self, kind: str, **fields: object) -> str:
        fields |= {"sequence_number": self._number, "type": kind}
        self._number += 1
        return f"event: {kind}\ndata: {_text(dict(sorted(fields.items())))}\n\n"


def _text(value: object) -> str:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.replace(f'"{_escaped(_SECOND)}"', CREATED).replace(_escaped(ID), ID)


def _escaped(mark: str) -> str:
    return f"\\u{ord(mark):04x}"


def _part(text: str) -> dict[str, Any]:
    return {"annotations": [], "text": text, "type": "output_text", "logprobs": None}


def _item(text: str) -> dict[str, Any]:
    item = {"id": f"msg_{ID}", "content": [_part(text)], "role": "assistant", "status": "completed"}
    return {**item, "type": "message", "phase": None}


def _response(body: Body, model: Model, prompt: str, text: str, reason: str, tokens: int) -> dict[str, Any]:
    cut = reason == "length"
    usage = {
        "input_tokens": len(prompt),
        "input_tokens_details": {
            "cached_tokens": 0,
            "cache_write_tokens": 0,
            "input_tokens_per_turn": [],
            "cached_tokens_per_turn": [],
        },
        "output_tokens": tokens,
        "output_tokens_details": {
            "reasoning_tokens": 0,
            "tool_output_tokens": 0,
            "output_tokens_per_turn": [],
            "tool_output_tokens_per_turn": [],
        },
        "total_tokens": len(prompt) + tokens,
    }
    limit = number(body, "max_output_tokens")
    temperature, top_p = number(body, "temperature"), number(body, "top_p")
    return {
        "id": f"resp_{ID}",
        "created_at": _SECOND,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "instructions": body.get("instructions"),
        "metadata": body.get("metadata"),
        "model": model.served,
        "object": "response",
        "output": [_item(text)] if reason else [],
        "parallel_tool_calls": True,
        "temperature": 1.0 if temperature is None else temperature,
        "tool_choice": "none",
        "tools": [],
        "top_p": 1.0 if top_p is None else top_p,
        "background": False,
        "max_output_tokens": model.knobs.max_model_len - len(prompt) if limit is None else int(limit),
        "max_tool_calls": None,
        "previous_response_id": None,
        "prompt": None,
        "reasoning": None,
        "service_tier": "auto",
        "status": ("incomplete" if cut else "completed") if reason else "in_progress",
        "text": None,
        "top_logprobs": None,
        "truncation": "disabled",
        "usage": usage if reason else None,
        "user": body.get("user"),
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "input_messages": None,
        "output_messages": None,
    }
