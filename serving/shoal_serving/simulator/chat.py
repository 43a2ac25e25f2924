"""Chat completions as vLLM answers them."""

from shoal_serving.simulator import tool_calls, vllm_errors
from shoal_serving.simulator.checking import Body, check, is_true, number
from shoal_serving.simulator.model import Model, ids_text, optional, quote, step_count, usage_text, wants_usage
from shoal_serving.simulator.planning import CREATED, DONE, ID, Plan
from shoal_serving.simulator.tokenizing import chat
from shoal_serving.simulator.vllm_errors import Flaw, flawed, invalid
from shoal_serving.simulator.writing import Sequence

_EMPTY = "Cannot apply chat template to an empty conversation. Provide at least one message."
_NO_TOOLS = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
_DETAILS = ',"prompt_tokens_details":null,"completion_tokens_details":null'
_STREAM_DETAILS = ',"completion_tokens_details":null'


def plan(body: Body, model: Model) -> Plan:
    check(body, {"messages": list}, "openai", model.asked_for)
    for at, message in enumerate(body["messages"]):
        if not isinstance(message, dict) or "role" not in message:
            where = f"body.messages.{at}.ChatCompletionDeveloperMessageParam.role"
            raise flawed([Flaw("missing", where, "Field required", message)])
    if not body["messages"]:
        raise invalid(_EMPTY, None)
    calls = model.knobs.calls_tools
    if body.get("tools") and body.get("tool_choice") in (None, "auto") and not calls:
        raise invalid(_NO_TOOLS, None)
    opens = is_true(body, "add_generation_prompt") or body.get("add_generation_prompt") is None
    prompt = chat(model.words, body["messages"], opens and not is_true(body, "continue_final_message"))
    limit = number(body, "max_completion_tokens")
    limit = number(body, "max_tokens") if limit is None else limit
    sequences = model.write([prompt], body, None if limit is None else int(limit))
    reasons = tuple(sequence.finish_reason for sequence in sequences)  # what the engine counts; it knows of no tools
    tool = tool_calls.called(body, calls)
    if tool is not None:
        sequences = [tool_calls.as_arguments(sequence) for sequence in sequences]
    answer = Plan(
        prompt=prompt,
        streams=is_true(body, "stream"),
        sequences=len(sequences),
        tokens=sum(len(sequence.tokens) for sequence in sequences),
        longest=step_count(sequences),
        finish_reasons=reasons,
        dying=(vllm_errors.event(500), DONE),
    )
    if answer.streams:
        answer.steps = _steps(body, model, answer, sequences, tool)
    else:
        answer.body = _whole(body, model, answer, sequences, tool)
    return answer


def _whole(body: Body, model: Model, answer: Plan, sequences: list[Sequence], tool: str | None) -> str:
    shows_ids, depth = is_true(body, "return_token_ids"), _logprob_depth(body)
    choices = ",".join(
        f'{{"index":{index},"message":{_message(sequence, tool)},'
        f'"logprobs":{_logprobs(sequence.pieces, depth)},"finish_reason":"{sequence.finish_reason}",'
        f'"stop_reason":{optional(sequence.stop_reason)},'
        f'"token_ids":{ids_text(sequence.tokens) if shows_ids else "null"},"routed_experts":null}}'
        for index, sequence in enumerate(sequences)
    )
    return (
        f'{{"id":"chatcmpl-{ID}","object":"chat.completion","created":{CREATED},"model":{quote(model.served)},'
        f'"choices":[{choices}],"service_tier":null,"system_fingerprint":"{model.fingerprint}",'
        f'"usage":{usage_text(len(answer.prompt), answer.tokens, _DETAILS)},"prompt_logprobs":null,'
        f'"prompt_token_ids":{ids_text(answer.prompt) if shows_ids else "null"},"prompt_text":null,'
        '"kv_transfer_params":null,"ec_transfer_params":null,"metrics":null}'
    )


def _steps(
    body: Body, model: Model, answer: Plan, sequences: list[Sequence], tool: str | None
) -> tuple[tuple[str, ...], ...]:
    shows_ids, depth = is_true(body, "return_token_ids"), _logprob_depth(body)
    at_end, always = wants_usage(body)
    prompt_tokens = len(answer.prompt)
    head = (
        f'data: {{"id":"chatcmpl-{ID}","object":"chat.completion.chunk","created":{CREATED},'
        f'"model":{quote(model.served)},"choices":['
    )
    fingerprint = f',"system_fingerprint":"{model.fingerprint}"'
    prompt_ids = ids_text(answer.prompt) if shows_ids else "null"
    opening = "" if not always else f',"usage":{usage_text(prompt_tokens, 0, _STREAM_DETAILS)}'
    steps: list[list[str]] = [[] for _ in range(answer.longest)]
    for index in range(len(sequences)):
        steps[0].append(
            f'{head}{{"index":{index},"delta":{{"role":"assistant","content":""}},"logprobs":null,'
            f'"finish_reason":null}}]{opening},"prompt_token_ids":{prompt_ids},"prompt_text":null}}\n\n'
        )
    for index, sequence in enumerate(sequences):
        last = len(sequence.pieces) - 1
        before = f'{head}{{"index":{index},"delta":{{'
        for at, piece in enumerate(sequence.pieces):
            usage = f',"usage":{usage_text(prompt_tokens, at + 1, _STREAM_DETAILS)}' if always else ""
            ids = f"[{ord(sequence.tokens[at])}]" if shows_ids else "null"
            logprobs = _logprobs((piece,), depth)
            if at == last:
                reason = f'"{sequence.finish_reason}","stop_reason":{optional(sequence.stop_reason)}'
                usage += "" if at_end else fingerprint
            else:
                reason = "null"
            steps[at].append(
                f'{before}{_delta(sequence, at, tool)}}},"logprobs":{logprobs},"finish_reason":{reason},'
                f'"token_ids":{ids}}}]{usage}}}\n\n'
            )
    if at_end:
        steps[-1].append(f'{head}],"usage":{usage_text(prompt_tokens, answer.tokens)}{fingerprint}}}\n\n')
    steps[-1].append(DONE)
    return tuple(map(tuple, steps))


def _message(sequence: Sequence, tool: str | None) -> str:
    content = quote(sequence.text) if tool is None else "null"
    calls = "" if tool is None else tool_calls.message(tool, sequence)
    return (
        f'{{"role":"assistant","content":{content},"refusal":null,"annotations":null,"audio":null,'
        f'"function_call":null,{calls}"reasoning":null}}'
    )


def _delta(sequence: Sequence, at: int, tool: str | None) -> str:
    return f'"content":{quote(sequence.pieces[at])}' if tool is None else tool_calls.delta(tool, sequence, at)


def _logprob_depth(body: Body) -> int | None:
    if not is_true(body, "logprobs"):
        return None
    return int(number(body, "top_logprobs") or 0)


def _logprobs(pieces: tuple[str, ...], depth: int | None) -> str:
    """Every token was sure; only the most likely one is shown among the top."""
    if depth is None:
        return "null"
    entries = []
    for piece in pieces:
        numbers = ",".join(map(str, piece.encode(errors="replace")))
        fields = f'"token":{quote(piece)},"logprob":-0.125,"bytes":[{numbers}]'
        entries.append(f'{{{fields},"top_logprobs":[{f"{{{fields}}}" if depth else ""}]}}')
    return f'{{"content":[{",".join(entries)}]}}'
