"""The smaller APIs: embeddings, tokens, models, transcription."""

import base64
import re
import struct
from math import sqrt
from typing import Any
from zlib import crc32

from shoal_serving.simulator import vllm_errors
from shoal_serving.simulator.checking import Body, check, is_true, number
from shoal_serving.simulator.model import Model, quote, usage_text
from shoal_serving.simulator.planning import CREATED, DONE, ID, Plan
from shoal_serving.simulator.tokenizing import chat, from_ids, to_ids
from shoal_serving.simulator.vllm_errors import Flaw, flawed, invalid, unknown_model
from shoal_serving.simulator.writing import Sequence

DETAILS = ',"prompt_tokens_details":null,"completion_tokens_details":null'
_STOP = ',"finish_reason":"stop","stop_reason":null'
_TRUE = (b"true", b"1", b"on", b"yes")
_PARTS = re.compile(rb'content-disposition:[^\r\n]*?\bname="([^"]*)"[^\r\n]*', re.IGNORECASE)


def embeddings(body: Body, model: Model) -> Plan:
    check(body, {"input": None}, "openai", model.asked_for)
    texts = inputs(body["input"], model)
    given, most = number(body, "dimensions"), model.knobs.embedding_size
    size = most if given is None else int(given)
    if not 1 <= size <= most:
        raise invalid(f"dimensions must be in [1, {most}], got {size}.", "dimensions")
    as_text = body.get("encoding_format") == "base64"
    items = ",".join(
        f'{{"index":{index},"object":"embedding","embedding":{_vector_text(unit_vector(text, size), as_text)}}}'
        for index, text in enumerate(texts)
    )
    prompt = "".join(texts)
    return Plan(
        prompt=prompt,
        body=f'{{"id":"embd-{ID}","object":"list","created":{CREATED},"model":{quote(model.served)},"data":[{items}],'
        f'"usage":{usage_text(len(prompt), 0, DETAILS)}}}',
        sequences=len(texts),
        finish_reasons=("stop",) * len(texts),
    )


def unit_vector(tokens: str, size: int) -> list[float]:
    """Of length 1; the same for the same text, another for another."""
    seed = crc32(tokens.encode("utf-8", "surrogatepass"))
    numbers = [crc32(b"%d" % at, seed) / 0x80000000 - 1 for at in range(size)]
    length = sqrt(sum(number * number for number in numbers)) or 1.0
    return [number / length for number in numbers]


def _vector_text(vector: list[float], as_text: bool) -> str:
    if as_text:
        return '"' + base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode() + '"'
    return "[" + ",".join(f"{number:.9g}" for number in vector) + "]"


def inputs(given: object, model: Model) -> list[str]:
    if isinstance(given, str):
        return [model.words.encode(given)]
    items = given if isinstance(given, list) else [str(given)]
    ids = [item for item in items if isinstance(item, int)]
    if items and len(ids) == len(items):
        return [from_ids(ids)]
    return [from_ids(item) if isinstance(item, list) else model.words.encode(str(item)) for item in items]


def tokenize(body: Body, model: Model) -> dict[str, Any]:
    required: dict[str, type | None] = {"messages": list} if "messages" in body else {"prompt": None}
    check(body, required, "openai", model.asked_for)
    if "messages" in body:
        opens = body.get("add_generation_prompt") is None or is_true(body, "add_generation_prompt")
        tokens = chat(model.words, body["messages"], opens)
    else:
        tokens = model.words.encode(str(body["prompt"]))
    strings = [model.words.decode(token) for token in tokens] if body.get("return_token_strs") else None
    limit = model.knobs.max_model_len
    return {"count": len(tokens), "max_model_len": limit, "tokens": to_ids(tokens), "token_strs": strings}


def detokenize(body: Body, model: Model) -> dict[str, Any]:
    check(body, {"tokens": list}, "openai", model.asked_for)
    return {"prompt": model.words.decode(from_ids(body["tokens"]))}


def models(model: Model, second: int) -> bytes:
    permission = {
        "id": f"modelperm-{crc32(model.served.encode()):016x}",
        "object": "model_permission",
        "created": second,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    card = {
        "id": model.served,
        "object": "model",
        "created": second,
        "owned_by": "vllm",
        "root": model.root,
        "parent": None,
        "max_model_len": model.knobs.max_model_len,
        "permission": [permission],
    }
    return vllm_errors.compact({"object": "list", "data": [card]})


def transcription(body: bytes, model: Model) -> Plan:
    """Hears in any file the text that the model writes to its length."""
    fields = form_fields(body)
    for name in ("file", "model"):
        if name not in fields:
            raise flawed([Flaw("missing", f"body.{name}", "Field required", None)])
    name = fields["model"].decode(errors="replace")
    if model.asked_for not in (None, name):
        raise unknown_model(name, model.served, "openai")
    prompt = model.words.encode(f"{len(fields['file'])} bytes")
    (sequence,) = model.write([prompt], {}, model.knobs.answer_tokens)
    seconds = max(1, len(fields["file"]) // 32_000)
    if fields.get("stream", b"").lower() in _TRUE:
        return _streamed(prompt, sequence, model)
    return Plan(
        prompt=prompt,
        body=f'{{"text":{quote(sequence.text)},"usage":{{"type":"duration","seconds":{seconds}}}}}',
        tokens=len(sequence.tokens),
        longest=len(sequence.tokens),
        finish_reasons=("stop",),
    )


def _streamed(prompt: str, sequence: Sequence, model: Model) -> Plan:
    head = (
        f'data: {{"id":"trsc-{ID}","object":"transcription.chunk","created":{CREATED},'
        f'"model":{quote(model.served)},"choices":['
    )
    last = len(sequence.pieces) - 1
    steps = [
        [f'{head}{{"delta":{{"content":{quote(piece)}}}{_STOP if at == last else ""}}}]}}\n\n']
        for at, piece in enumerate(sequence.pieces)
    ]
    steps[-1].append(DONE)
    return Plan(
        prompt=prompt,
        steps=tuple(map(tuple, steps)),
        streams=True,
        tokens=len(sequence.tokens),
        longest=len(sequence.tokens),
        finish_reasons=("stop",),
        dying=(vllm_errors.event(500), DONE),
    )


def form_fields(body: bytes) -> dict[str, bytes]:
    """The parts of a multipart form by their names, in any order."""
    boundary = body[: body.find(b"\r\n")]
    fields: dict[str, bytes] = {}
    if not boundary.startswith(b"--"):
        return fields
    at = body.find(b"\r\n") + 2
    while 0 < at < len(body):
        end = body.find(b"\r\n" + boundary, at)
        head_end = body.find(b"\r\n\r\n", at)
        if end < 0 or head_end < 0:
            break
        named = _PARTS.search(body, at, head_end)
        if named is not None:
            fields[named[1].decode(errors="replace")] = body[head_end + 4 : end]
        at = end + 2 + len(boundary) + 2
    return fields
