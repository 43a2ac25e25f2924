"""The story of the `openai` package, whichever major version is installed."""

from importlib.util import find_spec
from typing import Any

import openai
from story import HELLO, LARGE, PLACE, raises, step, tell

client = openai.OpenAI(base_url=PLACE["url"] + "/v1", api_key=PLACE["key"], max_retries=0, timeout=60)


def chat(**fields: Any) -> Any:
    return client.chat.completions.create(**{"model": PLACE["chat"], "messages": HELLO, "max_tokens": 8, **fields})


def broken(fault: str, **fields: Any) -> Any:
    """A chat with a model whose replica does on command what is wrong."""
    return chat(model=PLACE["faulty"], extra_headers={"x-simulate": fault}, **fields)


@step
def lists() -> None:
    names = [model.id for model in client.models.list()]
    assert {PLACE["chat"], PLACE["embed"], PLACE["faulty"]} <= set(names), names
    assert client.models.retrieve(PLACE["chat"]).owned_by == "shoal"


@step
def chats() -> None:
    answer = chat(temperature=0)
    assert answer.model == PLACE["chat"]
    assert answer.choices[0].message.role == "assistant"
    assert answer.usage.completion_tokens == 8


@step
def streams() -> None:
    chunks = list(chat(temperature=0, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == chat(temperature=0).choices[0].message.content
    assert chunks[-1].usage.completion_tokens == 8


@step
def completes_text() -> None:
    asked = {"model": PLACE["chat"], "prompt": "Once", "max_tokens": 8, "temperature": 0}
    whole = client.completions.create(**asked)
    streamed = client.completions.create(**asked, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == whole.choices[0].text


@step
def embeds() -> None:
    sentences = ["A cat sits on the mat", "A kitten rests on a rug", "The stock market fell today"]
    for encoding in ("float", "base64"):
        found = client.embeddings.create(model=PLACE["embed"], input=sentences, encoding_format=encoding).data
        assert [row.index for row in found] == [0, 1, 2]
        assert len({len(row.embedding) for row in found}) == 1


@step
def responds() -> None:
    answer = client.responses.create(model=PLACE["chat"], input="Hello", max_output_tokens=8, temperature=0)
    assert answer.status in ("completed", "incomplete")
    assert answer.usage.output_tokens == 8


@step
def responds_in_a_stream() -> None:
    events = list(client.responses.create(model=PLACE["chat"], input="Hello", max_output_tokens=8, stream=True))
    assert events[0].type == "response.created"
    assert events[-1].type in ("response.completed", "response.incomplete")


@step
def error_400() -> None:
    raises(openai.BadRequestError, lambda: chat(temperature=9), status_code=400, param="temperature")
    raises(openai.BadRequestError, lambda: chat(temperature=9, stream=True), status_code=400)


@step
def error_401() -> None:
    stranger = client.with_options(api_key=PLACE["wrong_key"])
    raises(openai.AuthenticationError, stranger.models.list, status_code=401, code="invalid_api_key")
    ask = stranger.chat.completions.create
    raises(openai.AuthenticationError, lambda: ask(model=PLACE["chat"], messages=HELLO), code="invalid_api_key")


@step
def error_403() -> None:
    limited = client.with_options(api_key=PLACE["limited_key"])
    ask = limited.chat.completions.create
    raises(openai.PermissionDeniedError, lambda: ask(model=PLACE["chat"], messages=HELLO), code="permission_denied")


@step
def error_404() -> None:
    raises(openai.NotFoundError, lambda: chat(model="nobody"), code="model_not_found", param="model")
    raises(openai.NotFoundError, lambda: client.models.retrieve("nobody"), code="model_not_found")
    raises(openai.NotFoundError, client.files.list, code="unknown_url")


@step
def error_413() -> None:
    raises(openai.APIStatusError, lambda: chat(user=LARGE), status_code=413, code="request_too_large")


@step
def error_422() -> None:
    raises(openai.UnprocessableEntityError, lambda: broken("status code=422"), status_code=422)


@step
def error_429() -> None:
    error = raises(openai.RateLimitError, lambda: chat(model=PLACE["full"]), code="queue_full")
    assert float(error.response.headers["retry-after-ms"]) > 0


@step
def error_500() -> None:
    raises(openai.InternalServerError, lambda: broken("status code=500"), status_code=500, type="server_error")


@step
def error_503() -> None:
    raises(openai.InternalServerError, lambda: chat(model=PLACE["empty"]), status_code=503, code="model_not_ready")
    raises(openai.InternalServerError, lambda: broken("error-event code=503", stream=True), status_code=503)


@step
def error_504() -> None:
    raises(openai.InternalServerError, lambda: broken("hang"), status_code=504, code="engine_timeout")


@step
def error_in_the_stream() -> None:
    for fault in ("cut after=3", "cut after=3 inside=true reset=true", "error-event after=3"):
        raises(openai.APIError, lambda fault=fault: list(broken(fault, stream=True)), code="upstream_lost")


@step
def error_in_a_stream_of_responses() -> None:
    """There it is an event of its own, which the client hands on."""
    events = list(
        client.responses.create(
            model=PLACE["faulty"], input="Hello", stream=True, extra_headers={"x-simulate": "cut after=5"}
        )
    )
    assert (events[-1].type, events[-1].code) == ("error", "upstream_lost")
    assert [event.sequence_number for event in events] == list(range(len(events)))


if find_spec("websockets") is not None:

    @step
    def opens_a_realtime_session() -> None:
        with client.realtime.connect(model=PLACE["faulty"]) as session:
            assert session.recv().type == "session.created"
            for event in ({"type": "input_audio_buffer.commit"}, {"type": "input_audio_buffer.commit", "final": True}):
                session.send(event)
            heard = [session.recv()]
            while heard[-1].type == "transcription.delta":
                heard.append(session.recv())
        assert heard[-1].type == "transcription.done"
        assert "".join(event.delta for event in heard[:-1]) == heard[-1].text


@step
def a_retry_is_told_and_made() -> None:
    """A refusal with Retry-After is waited for and asked again by the client itself."""
    patient = client.with_options(max_retries=1)
    ask = patient.chat.completions.with_raw_response.create
    error = raises(openai.RateLimitError, lambda: ask(model=PLACE["full"], messages=HELLO))
    assert error.request.headers["x-stainless-retry-count"] == "1"


tell()
