"""Anthropic's Messages API as vLLM answers it: typed events, no [DONE]."""

from typing import Any

from shoal_serving.simulator.checking import Body, check, is_true, number
from shoal_serving.simulator.model import Model, quote, step_count
from shoal_serving.simulator.planning import ID, Plan
from shoal_serving.simulator.tokenizing import chat
from shoal_serving.simulator.vllm_errors import anthropic_event, invalid
from shoal_serving.simulator.writing import Sequence

_REASONS = {"stop": "end_turn", "length": "max_tokens"}


def plan(body: Body, model: Model) -> Plan:
    check(body, {"messages": list, "max_tokens": None}, "anthropic", model.asked_for)
    prompt = _prompt(body, model)
    (sequence,) = model.write([prompt], {**body, "n": None}, int(number(body, "max_tokens") or 0), "anthropic")
    answer = Plan(
        prompt=prompt,
        streams=is_true(body, "stream"),
        tokens=len(sequence.tokens),
        longest=step_count([sequence]),
        finish_reasons=(sequence.finish_reason,),
    )
    reason = "stop_sequence" if sequence.stop_reason else _REASONS[sequence.finish_reason]
    if answer.streams:
        answer.steps = _steps(model, prompt, sequence, reason)
        answer.dying = (anthropic_event(500),)
    else:
        stop = f'"stop_sequence":{quote(sequence.stop_reason)},' if sequence.stop_reason else ""
        answer.body = (
            f'{{"id":"chatcmpl-{ID}","type":"message","role":"assistant",'
            f'"content":[{{"type":"text","text":{quote(sequence.text)}}}],"model":{quote(model.served)},'
            f'"stop_reason":"{reason}",{stop}'
            f'"usage":{{"input_tokens":{len(prompt)},"output_tokens":{len(sequence.tokens)}}}}}'
        )
    return answer


def count_tokens(body: Body, model: Model) -> dict[str, Any]:
    check(body, {"messages": list}, "anthropic", model.asked_for)
    count = len(_prompt(body, model))
    return {"input_tokens": count, "context_management": {"original_input_tokens": count}}


def _prompt(body: Body, model: Model) -> str:
    if not body["messages"]:
        raise invalid(
            "Cannot apply chat template to an empty conversation. Provide at least one message.", None, "anthropic"
        )
    system = [{"role": "system", "content": body["system"]}] if body.get("system") else []
    return chat(model.words, [*system, *body["messages"]], opens_answer=True)


def _steps(model: Model, prompt: str, sequence: Sequence, reason: str) -> tuple[tuple[str, ...], ...]:
    steps: list[list[str]] = [[] for _ in sequence.pieces]
    steps[0].append(
        _event(
            "message_start",
            f'"message":{{"id":"chatcmpl-{ID}","type":"message","role":"assistant","content":[],'
            f'"model":{quote(model.served)},"stop_reason":null,"stop_sequence":null,'
            f'"usage":{{"input_tokens":{len(prompt)},"output_tokens":0}}}}',
        )
    )
    steps[0].append(_event("content_block_start", '"content_block":{"type":"text","text":""},"index":0'))
    for step, piece in zip(steps, sequence.pieces, strict=True):
        if piece:
            step.append(
                _event("content_block_delta", f'"delta":{{"type":"text_delta","text":{quote(piece)}}},"index":0')
            )
    steps[-1].extend(_ending(reason, sequence.stop_reason, len(prompt), len(sequence.tokens)))
    return tuple(map(tuple, steps))


def _ending(reason: str, stop: str | None, prompt_tokens: int, tokens: int) -> tuple[str, ...]:
    stopped = "null" if stop is None else quote(stop)
    return (
        _event("content_block_stop", '"index":0'),
        _event(
            "message_delta",
            f'"delta":{{"stop_reason":"{reason}","stop_sequence":{stopped}}},'
            f'"usage":{{"input_tokens":{prompt_tokens},"output_tokens":{tokens}}}',
        ),
        _event("message_stop", ""),
    )


def _event(kind: str, fields: str) -> str:
    return f'event: {kind}\ndata: {{"type":"{kind}"{"," if fields else ""}{fields}}}\n\n'
