"""A stream is continued only where that is exact, and then the client cannot tell it from an unbroken one."""

import json
from typing import Any

import pytest

from shoal_serving.gateway import continuation, sse
from shoal_serving.gateway.continuation import CHAT, COMPLETIONS, Transcript, Wish

MESSAGES = [{"role": "user", "content": "hi"}]


def _chat(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "stream": True, "messages": MESSAGES} | fields


def _completion(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "stream": True, "prompt": "hi"} | fields


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, _chat()),
        (CHAT, _chat(temperature=0.3, top_p=0.9, top_k=5, max_tokens=9, n=1, user="u")),
        (CHAT, _chat(messages=[{"role": "user", "content": [{"type": "text", "text": "hi"}]}])),
        (CHAT, _chat(stream_options={"include_usage": True}, response_format={"type": "text"})),
        (CHAT, _chat(stop=[], tools=None, presence_penalty=0, logprobs=False, seed=None, stop_token_ids=[7])),
        (COMPLETIONS, _completion(max_tokens=5)),
    ],
)
def test_plain_text_streams_are_continued(path: str, body: dict[str, Any]) -> None:
    assert continuation.why_not(path, body, reasoning_parser=False) == ""


IMAGE = {"type": "image_url", "image_url": {"url": "data:,"}}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, _chat(stream=False)),
        (CHAT, {"model": "m", "messages": MESSAGES}),
        ("/v1/responses", {"model": "m", "stream": True, "input": "hi"}),
        ("/v1/messages", _chat()),
        (CHAT, _chat(n=2)),
        (CHAT, _chat(tools=[{}])),
        (CHAT, _chat(functions=[{}])),
        (CHAT, _chat(response_format={"type": "json_object"})),
        (CHAT, _chat(structured_outputs={"regex": "a"})),
        (CHAT, _chat(guided_json={"a": 1})),
        (CHAT, _chat(logprobs=True)),
        (CHAT, _chat(prompt_logprobs=1)),
        (CHAT, _chat(echo=True)),
        (CHAT, _chat(seed=1)),
        (CHAT, _chat(stop="x")),
        (CHAT, _chat(stop=["x"])),
        (CHAT, _chat(bad_words=["x"])),
        (CHAT, _chat(presence_penalty=0.1)),
        (CHAT, _chat(frequency_penalty=-0.1)),
        (CHAT, _chat(min_tokens=3)),
        (CHAT, _chat(use_beam_search=True)),
        (CHAT, _chat(truncate_prompt_tokens=3)),
        (CHAT, _chat(return_token_ids=True)),
        (CHAT, _chat(audio={"voice": "x"})),
        (CHAT, _chat(stream_options={"continuous_usage_stats": True})),
        (CHAT, _chat(messages=[{"role": "user", "content": [IMAGE]}])),
        (CHAT, _chat(messages="hi")),
        (COMPLETIONS, _completion(best_of=2)),
        (COMPLETIONS, _completion(prompt_embeds="x")),
        (COMPLETIONS, _completion(prompt=["a", "b"])),
        (COMPLETIONS, _completion(prompt=[1, 2])),
        (COMPLETIONS, _completion(suffix="x")),
    ],
)
def test_the_closed_list_is_not_continued(path: str, body: dict[str, Any]) -> None:
    assert continuation.why_not(path, body, reasoning_parser=False) != ""


def test_an_engine_with_a_reasoning_parser_is_not_continued() -> None:
    assert continuation.why_not(CHAT, _chat(), reasoning_parser=True) != ""


def test_the_ids_are_asked_for_and_nothing_else_is_changed() -> None:
    body = b'{ "model":"m",\n"messages":[] }\n '

    assert continuation.asking_for_ids(body) == b'{ "model":"m",\n"messages":[] ,"return_token_ids":true}'


FIRST = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,'
    b'"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"prompt_token_ids":[4,5,6]}\n\n'
)


def _said(text: str, *ids: int, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": finish, "token_ids": list(ids)}
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


def _continued(text: str, *ids: int, finish: str | None = None) -> bytes:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish, "token_ids": list(ids)}
    chunk = {"id": "cmpl-2", "object": "text_completion", "created": 9, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


def _running(**fields: Any) -> Transcript:
    transcript = Transcript(Wish.of(CHAT, _chat(**fields)))
    transcript.take(FIRST)
    transcript.take(_said("a", 10) + _said("bc", 11, 12))
    return transcript


def test_the_client_never_sees_the_ids() -> None:
    transcript = Transcript(Wish.of(CHAT, _chat()))

    seen = transcript.take(FIRST) + transcript.take(_said("a", 10) + _said("b", 11))

    assert b'token_ids":[' not in seen
    assert [json.loads(sse.data_of(event) or b"")["choices"][0]["delta"]["content"] for event in sse.split(seen)] == [
        "",
        "a",
        "b",
    ]


def test_text_that_looks_like_ids_stays() -> None:
    transcript = _running()

    assert transcript.take(_said('"token_ids":[1]', 13)).count(b"[1]") == 1
    assert transcript.ids() == [10, 11, 12, 13]


def test_the_rest_is_asked_for_with_the_ids_so_far() -> None:
    body = json.loads(_running(max_tokens=10, temperature=0, user="u").request())

    assert body["prompt"] == [4, 5, 6, 10, 11, 12]
    assert body["max_tokens"] == 7
    assert (body["model"], body["temperature"], body["user"], body["stream"]) == ("m", 0, "u", True)
    assert body["return_token_ids"] is True
    assert "messages" not in body


def test_no_limit_stays_no_limit() -> None:
    assert json.loads(_running().request())["max_tokens"] is None


def test_a_completions_unset_limit_is_the_apis_default() -> None:
    wish = Wish.of(COMPLETIONS, _completion())

    assert wish.most == 16
    assert Wish.of(COMPLETIONS, _completion(max_tokens=None)).most is None


def test_the_continuing_events_look_like_the_first_streams() -> None:
    transcript = _running()

    events = sse.split(
        transcript.converted(_continued("d", 13) + _continued("e", 14, finish="stop") + b"data: [DONE]\n\n")
    )

    chunks = [json.loads(sse.data_of(event) or b"") for event in events[:-1]]
    assert [chunk["choices"][0]["delta"]["content"] for chunk in chunks] == ["d", "e"]
    assert {(chunk["id"], chunk["created"], chunk["model"], chunk["object"]) for chunk in chunks} == {
        ("chatcmpl-1", 7, "m", "chat.completion.chunk")
    }
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert "token_ids" not in json.dumps(chunks)
    assert events[-1] == b"data: [DONE]\n\n"


def test_usage_is_that_of_one_unbroken_request() -> None:
    transcript = _running(stream_options={"include_usage": True})
    usage = {"prompt_tokens": 6, "completion_tokens": 1, "total_tokens": 7}
    last = b"data: " + json.dumps({"id": "cmpl-2", "choices": [], "usage": usage}).encode() + b"\n\n"

    events = sse.split(transcript.converted(_continued("d", 13, finish="stop") + last))

    assert json.loads(sse.data_of(events[-1]) or b"")["usage"] == {
        "prompt_tokens": 3,
        "total_tokens": 7,
        "completion_tokens": 4,
    }


def test_a_second_cut_goes_on_from_what_both_replicas_said() -> None:
    transcript = _running(max_tokens=10)
    transcript.converted(_continued("d", 13))

    assert json.loads(transcript.request())["prompt"] == [4, 5, 6, 10, 11, 12, 13]
    assert transcript.remaining() == 6


def test_after_the_finish_reason_no_replica_is_needed() -> None:
    transcript = _running(stream_options={"include_usage": True})
    transcript.take(_said("d", 13, finish="stop"))

    events = sse.split(transcript.ending())

    assert not transcript.can_continue
    assert json.loads(sse.data_of(events[0]) or b"")["usage"]["completion_tokens"] == 4
    assert events[-1] == b"data: [DONE]\n\n"


def test_a_full_answer_cut_before_its_finish_reason_ends_by_length() -> None:
    transcript = _running(max_tokens=3)

    events = sse.split(transcript.ending())

    assert not transcript.can_continue
    assert json.loads(sse.data_of(events[0]) or b"")["choices"][0]["finish_reason"] == "length"


def test_without_the_prompts_ids_nothing_is_continued() -> None:
    transcript = Transcript(Wish.of(CHAT, _chat()))
    transcript.take(FIRST.replace(b"[4,5,6]", b"null"))

    assert not transcript.can_continue


def test_dropped_ids_are_not_part_of_the_answer() -> None:
    transcript = _running(max_tokens=10)

    transcript.drop(2)

    assert transcript.ids() == [10]
    assert transcript.remaining() == 9
