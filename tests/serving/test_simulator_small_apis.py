"""The simulator's smaller APIs: scores, ranks, classes, pooled vectors, streamed transcriptions, tool calls."""

import json
from typing import Any

import pytest

from shoal_serving.simulator.knobs import Knobs
from simulated import run_async, simulated

EMBEDS = Knobs(embeds=True, embedding_size=16)
BOUNDARY = "b0undary"


def asked(path: str, body: Any, knobs: Knobs = EMBEDS, headers: dict[str, str] | None = None) -> Any:
    heard: list[Any] = []

    async def story() -> None:
        async with simulated(knobs) as engine:
            heard.append(await engine.ask("POST", path, body, headers))

    run_async(story())
    return heard[0]


@pytest.mark.parametrize("path", ["/score", "/v1/score"])
@pytest.mark.parametrize("pair", [("queries", "documents"), ("text_1", "text_2"), ("data_1", "data_2")])
def test_a_text_is_most_like_itself(path: str, pair: tuple[str, str]) -> None:
    found = asked(path, {"model": "m", pair[0]: "a cat", pair[1]: ["a cat", "a dog"]}).json()
    scores = [row["score"] for row in found["data"]]
    assert scores[0] == pytest.approx(1)
    assert scores[1] < 0.99
    assert [row["object"] for row in found["data"]] == ["score", "score"]


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_documents_are_ranked_and_cut_off(path: str) -> None:
    body = {"model": "m", "query": "a cat", "documents": ["a dog", "a cat", "a cow"], "top_n": 2}
    results = asked(path, body).json()["results"]
    assert len(results) == 2
    assert (results[0]["index"], results[0]["document"]["text"]) == (1, "a cat")


def test_classes_are_probabilities_and_vectors_are_pooled() -> None:
    (row,) = asked("/classify", {"model": "m", "input": "a cat"}).json()["data"]
    assert sum(row["probs"]) == pytest.approx(1)
    assert row["label"] in ("LABEL_0", "LABEL_1")
    rows = asked("/pooling", {"model": "m", "input": ["a", "b"]}).json()["data"]
    assert [len(row["data"]) for row in rows] == [16, 16]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/score", {"model": "m", "queries": "a"}, "body.queries"),
        ("/rerank", {"model": "m", "query": "a"}, "body.documents"),
        ("/v1/embeddings", {"model": "m", "input": "a", "dimensions": 10**12}, "dimensions"),
    ],
)
def test_what_is_missing_or_too_large_is_a_400(path: str, body: dict[str, Any], param: str) -> None:
    answer = asked(path, body)
    assert (answer.status, answer.json()["error"]["param"]) == (400, param)


def test_one_request_cannot_fill_the_memory() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "a"}], "n": 10_000, "max_tokens": 30_000}
    assert asked("/v1/chat/completions", body, Knobs()).status == 400


def test_a_writer_offers_none_of_them() -> None:
    assert asked("/score", {"model": "m", "queries": "a", "documents": "b"}, Knobs()).status == 404


def test_a_transcription_can_be_streamed() -> None:
    fields = {"model": b"m", "stream": b"true", "file": bytes(64_000)}
    parts = [
        f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n'.encode() + value + b"\r\n"
        for name, value in fields.items()
    ]
    body = b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
    kind = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    answer = asked("/v1/audio/transcriptions", body, Knobs(answer_tokens=5), kind)
    assert answer.events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in answer.events[:-1]]
    assert {chunk["object"] for chunk in chunks} == {"transcription.chunk"}
    assert [chunk["choices"][0].get("finish_reason") for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert answer.text


TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize(
    ("choice", "knobs", "reason"),
    [
        (None, Knobs(calls_tools=True), "tool_calls"),
        ("required", Knobs(), "tool_calls"),
        ({"type": "function", "function": {"name": "look"}}, Knobs(), "tool_calls"),
        ("none", Knobs(calls_tools=True), "stop"),
    ],
)
def test_a_chat_with_tools_calls_one_whole_or_in_pieces(choice: Any, knobs: Knobs, reason: str) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "a"}], "tools": [TOOL]}
    body |= {"tool_choice": choice} if choice is not None else {}
    (whole,) = asked("/v1/chat/completions", body, knobs).json()["choices"]
    assert whole["finish_reason"] == reason
    chunks = [json.loads(event) for event in asked("/v1/chat/completions", body | {"stream": True}, knobs).events[:-1]]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    if reason == "stop":
        assert "tool_calls" not in whole["message"]
        return
    (call,) = whole["message"]["tool_calls"]
    assert whole["message"]["content"] is None
    assert call["function"]["name"] == "look"
    assert set(json.loads(call["function"]["arguments"])) == {"text"}
    pieces = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert pieces[0]["id"] == call["id"]
    assert "".join(piece["function"]["arguments"] for piece in pieces) == call["function"]["arguments"]
