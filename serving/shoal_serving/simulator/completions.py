"""Text completions as vLLM answers them: a prompt as text or as token ids, or several."""

from typing import Any

from shoal_serving.simulator import vllm_errors
from shoal_serving.simulator.checking import Body, check, is_true, number
from shoal_serving.simulator.model import Model, ids_text, optional, quote, step_count, usage_text, wants_usage
from shoal_serving.simulator.planning import CREATED, DONE, ID, Plan
from shoal_serving.simulator.tokenizing import from_ids
from shoal_serving.simulator.vllm_errors import invalid
from shoal_serving.simulator.writing import Sequence

_DEFAULT_LIMIT = 16
_DETAILS = ',"prompt_tokens_details":null,"completion_tokens_details":null'


def plan(body: Body, model: Model) -> Plan:
    check(body, {}, "openai", model.asked_for)
    prompts = _prompts(body.get("prompt"), model)
    limit = number(body, "max_tokens") if "max_tokens" in body else float(_DEFAULT_LIMIT)
    sequences = model.write(prompts, body, None if limit is None else int(limit))
    answer = Plan(
        prompt="".join(prompts),
        streams=is_true(body, "stream"),
        sequences=len(sequences),
        tokens=sum(len(sequence.tokens) for sequence in sequences),
        longest=step_count(sequences),
        finish_reasons=tuple(sequence.finish_reason for sequence in sequences),
        dying=(vllm_errors.event(500), DONE),
    )
    if answer.streams:
        answer.steps = _steps(body, model, answer, prompts, sequences)
    else:
        answer.body = _whole(body, model, answer, prompts, sequences)
    return answer


def _prompts(given: object, model: Model) -> list[str]:
    if given is None or given == "":
        raise invalid("Either prompt or prompt_embeds must be provided and non-empty.", "prompt")
    if isinstance(given, str):
        return [model.words.encode(given)]
    if not isinstance(given, list) or not given:
        raise invalid("You must pass at least one prompt", None)
    if _is_one_of_ids(given):
        return [_from_ids(given, model)]
    return [_from_ids(item, model) if isinstance(item, list) else model.words.encode(str(item)) for item in given]


def _is_one_of_ids(given: object) -> bool:
    return isinstance(given, list) and all(isinstance(item, int) and not isinstance(item, bool) for item in given)


def _from_ids(ids: list[Any], model: Model) -> str:
    for token in ids:
        if not isinstance(token, int) or not 0 <= token < model.words.size:
            raise invalid(f"Token id {token} is out of vocabulary", None)
    return from_ids(ids)


def _echo(body: Body, model: Model, prompt: str) -> str:
    return model.words.decode(prompt) if is_true(body, "echo") else ""


def _whole(body: Body, model: Model, answer: Plan, prompts: list[str], sequences: list[Sequence]) -> str:
    shows_ids = is_true(body, "return_token_ids")
    per_prompt = len(sequences) // len(prompts)
    choices = ",".join(
        f'{{"index":{index},"text":{quote(_echo(body, model, prompts[index // per_prompt]) + sequence.text)},'
        f'"logprobs":{_logprobs(body, sequence.pieces, 0)},"finish_reason":"{sequence.finish_reason}",'
        f'"stop_reason":{optional(sequence.stop_reason)},'
        f'"token_ids":{ids_text(sequence.tokens) if shows_ids else "null"},"prompt_logprobs":null,'
        f'"prompt_token_ids":{ids_text(prompts[index // per_prompt]) if shows_ids else "null"},"routed_experts":null}}'
        for index, sequence in enumerate(sequences)
    )
    return (
        f'{{"id":"cmpl-{ID}","object":"text_completion","created":{CREATED},"model":{quote(model.served)},'
        f'"choices":[{choices}],"service_tier":null,"system_fingerprint":"{model.fingerprint}",'
        f'"usage":{usage_text(len(answer.prompt), answer.tokens, _DETAILS)},'
        '"kv_transfer_params":null,"ec_transfer_params":null,"metrics":null}'
    )


def _steps(
    body: Body, model: Model, answer: Plan, prompts: list[str], sequences: list[Sequence]
) -> tuple[tuple[str, ...], ...]:
    shows_ids, (at_end, always) = is_true(body, "return_token_ids"), wants_usage(body)
    per_prompt = len(sequences) // len(prompts)
    head = (
        f'data: {{"id":"cmpl-{ID}","object":"text_completion","created":{CREATED},'
        f'"model":{quote(model.served)},"choices":['
    )
    fingerprint = f',"system_fingerprint":"{model.fingerprint}"'
    steps: list[list[str]] = [[] for _ in range(answer.longest)]
    for index, sequence in enumerate(sequences):
        prompt, last, offset = prompts[index // per_prompt], len(sequence.pieces) - 1, 0
        echo = _echo(body, model, prompt)
        for at, piece in enumerate(sequence.pieces):
            rest = f',"usage":{usage_text(len(prompt), at + 1)}' if always else ""
            reason, stop = "null", "null"
            if at == last:
                reason, stop = f'"{sequence.finish_reason}"', optional(sequence.stop_reason)
                rest += "" if at_end else fingerprint
            prompt_ids = ids_text(prompt) if (shows_ids or echo) and at == 0 else "null"
            ids = f"[{ord(sequence.tokens[at])}]" if shows_ids else "null"
            steps[at].append(
                f'{head}{{"index":{index},"text":{quote(echo + piece if at == 0 else piece)},'
                f'"logprobs":{_logprobs(body, (piece,), offset)},"finish_reason":{reason},"stop_reason":{stop},'
                f'"prompt_token_ids":{prompt_ids},"token_ids":{ids}}}]{rest}}}\n\n'
            )
            offset += len(piece)
    if at_end:
        steps[-1].append(f'{head}],"usage":{usage_text(len(answer.prompt), answer.tokens)}{fingerprint}}}\n\n')
    steps[-1].append(DONE)
    return tuple(map(tuple, steps))


def _logprobs(body: Body, pieces: tuple[str, ...], offset: int) -> str:
    if body.get("logprobs") is None:
        return "null"
    offsets = []
    for piece in pieces:
        offsets.append(str(offset))
        offset += len(piece)
    quoted = [quote(piece) for piece in pieces]
    return (
        f'{{"text_offset":[{",".join(offsets)}],"token_logprobs":[{",".join(["-0.125"] * len(pieces))}],'
        f'"tokens":[{",".join(quoted)}],"top_logprobs":[{",".join(f"{{{text}:-0.125}}" for text in quoted)}]}}'
    )
