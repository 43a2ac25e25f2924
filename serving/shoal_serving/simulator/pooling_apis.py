"""What a model that embeds offers besides embeddings: pooling, scoring, reranking, classification."""

from json import dumps
from typing import Any

from shoal_serving.simulator.checking import Body, check, number
from shoal_serving.simulator.model import Model, quote, usage_text
from shoal_serving.simulator.other_apis import DETAILS, inputs, unit_vector
from shoal_serving.simulator.planning import CREATED, ID, Plan
from shoal_serving.simulator.vllm_errors import Flaw, flawed, invalid

_PAIRS = (("queries", "documents"), ("queries", "items"), ("data_1", "data_2"), ("text_1", "text_2"))
_LABELS = 2


def pooling(body: Body, model: Model) -> Plan:
    check(body, {"input": None}, "openai", model.asked_for)
    texts = inputs(body["input"], model)
    size = model.knobs.embedding_size
    rows = [{"index": at, "object": "pooling", "data": unit_vector(text, size)} for at, text in enumerate(texts)]
    return _listed("pooling", rows, texts, model)


def classify(body: Body, model: Model) -> Plan:
    check(body, {"input": None}, "openai", model.asked_for)
    texts = inputs(body["input"], model)
    rows = []
    for at, text in enumerate(texts):
        first = (unit_vector(text, 1)[0] + 1) / 2
        probabilities = [first, 1 - first]
        label = f"LABEL_{probabilities.index(max(probabilities))}"
        rows.append({"index": at, "label": label, "probs": probabilities, "num_classes": _LABELS})
    return _listed("classify", rows, texts, model)


def score(body: Body, model: Model) -> Plan:
    pair = next((pair for pair in _PAIRS if all(name in body for name in pair)), None)
    if pair is None:
        raise flawed([Flaw("missing", f"body.{name}", "Field required", body) for name in _PAIRS[0]])
    check(body, {}, "openai", model.asked_for)
    one, other = (inputs(body[name], model) for name in pair)
    if len(one) == 1:
        one = one * len(other)
    if len(one) != len(other):
        raise invalid("Input lengths must be either 1:1, 1:N or N:N", None)
    scores = [_likeness(a, b, model) for a, b in zip(one, other, strict=True)]
    rows = [{"index": at, "object": "score", "score": found} for at, found in enumerate(scores)]
    return _listed("score", rows, [*one, *other], model)


def rerank(body: Body, model: Model) -> Plan:
    check(body, {"query": None, "documents": None}, "openai", model.asked_for)
    (query,), documents = inputs(str(body["query"]), model), inputs(body["documents"], model)
    found = [
        {"index": at, "document": {"text": model.words.decode(text)}, "relevance_score": _likeness(query, text, model)}
        for at, text in enumerate(documents)
    ]
    found.sort(key=lambda row: -float(str(row["relevance_score"])))
    count = sum(map(len, documents)) + len(query) * len(documents)
    results = _text(found[: int(number(body, "top_n") or 0) or None])
    return Plan(
        prompt="".join(documents),
        body=f'{{"id":"score-{ID}","model":{quote(model.served)},'
        f'"usage":{{"prompt_tokens":{count},"total_tokens":{count}}},"results":{results}}}',
        sequences=len(documents),
        finish_reasons=("stop",) * len(documents),
    )


def _likeness(one: str, other: str, model: Model) -> float:
    """The cosine of the two embeddings."""
    size = model.knobs.embedding_size
    return sum(a * b for a, b in zip(unit_vector(one, size), unit_vector(other, size), strict=True))


def _listed(prefix: str, rows: list[dict[str, Any]], texts: list[str], model: Model) -> Plan:
    return Plan(
        prompt="".join(texts),
        body=f'{{"id":"{prefix}-{ID}","object":"list","created":{CREATED},"model":{quote(model.served)},'
        f'"data":{_text(rows)},"usage":{usage_text(sum(map(len, texts)), 0, DETAILS)}}}',
        sequences=len(rows),
        finish_reasons=("stop",) * len(rows),
    )


def _text(rows: list[dict[str, Any]]) -> str:
    return dumps(rows, separators=(",", ":"), ensure_ascii=False)
