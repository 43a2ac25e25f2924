"""The client cannot tell a continued stream from an unbroken one."""

import json
from typing import Any

from shoal_serving.gateway import sse
from shoal_serving.gateway.transcript import CHAT, COMPLETIONS, Transcript, Wish

MESSAGES = [{"role": "user", "content": "hi"}]


def _chat(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "stream": True, "messages": MESSAGES} | fields


def _completion(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "stream": True, "prompt": "hi"} | fields


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

    transcript.resume(2)

    assert transcript.ids() == [10]
    assert transcript.remaining() == 9
