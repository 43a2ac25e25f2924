"""A stream is continued only where that is exact."""

from typing import Any

import pytest

from shoal_serving.gateway import continuation
from shoal_serving.gateway.transcript import CHAT, COMPLETIONS

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
    assert continuation.why_not(path, body) == ""


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
        (CHAT, _chat(seed=0)),
        (CHAT, _chat(watermarking=True)),
        (CHAT, _chat(repetition_detection={"max_pattern_size": 3})),
        (CHAT, _chat(thinking_token_budget=9)),
        (CHAT, _chat(spaces_between_special_tokens=False)),
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
        (COMPLETIONS, _completion(logprobs=0)),
        (COMPLETIONS, _completion(prompt_logprobs=0)),
        (COMPLETIONS, _completion(prompt_embeds="x")),
        (COMPLETIONS, _completion(prompt=["a", "b"])),
        (COMPLETIONS, _completion(prompt=[1, 2])),
        (COMPLETIONS, _completion(suffix="x")),
    ],
)
def test_the_closed_list_is_not_continued(path: str, body: dict[str, Any]) -> None:
    assert continuation.why_not(path, body) != ""


def test_the_ids_are_asked_for_and_nothing_else_is_changed() -> None:
    body = b'{ "model":"m",\n"messages":[] }\n '

    assert continuation.asking_for_ids(body) == b'{ "model":"m",\n"messages":[] ,"return_token_ids":true}'
