"""The story of the `anthropic` package."""

from typing import Any

import anthropic
from story import HELLO, LARGE, PLACE, raises, step, tell

client = anthropic.Anthropic(base_url=PLACE["url"], api_key=PLACE["key"], max_retries=0, timeout=60)


GREEDY = {"temperature": 0}
"""Not a parameter of this client any more, but a field that the engine knows."""


def message(**fields: Any) -> Any:
    return client.messages.create(**{"model": PLACE["chat"], "messages": HELLO, "max_tokens": 8, **fields})


def broken(fault: str, **fields: Any) -> Any:
    return message(model=PLACE["faulty"], extra_headers={"x-simulate": fault}, **fields)


@step
def lists() -> None:
    names = [model.id for model in client.models.list()]
    assert {PLACE["chat"], PLACE["embed"]} <= set(names), names
    assert client.models.retrieve(PLACE["chat"]).id == PLACE["chat"]


@step
def chats() -> None:
    answer = message(extra_body=GREEDY)
    assert (answer.role, answer.model) == ("assistant", PLACE["chat"])
    assert answer.stop_reason == "max_tokens"
    assert answer.usage.output_tokens == 8


@step
def streams() -> None:
    asked = {"model": PLACE["chat"], "messages": HELLO, "max_tokens": 8, "extra_body": GREEDY}
    with client.messages.stream(**asked) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == message(extra_body=GREEDY).content[0].text
    assert final.usage.output_tokens == 8


@step
def counts_tokens() -> None:
    assert client.messages.count_tokens(model=PLACE["chat"], messages=HELLO).input_tokens > 0


@step
def error_400() -> None:
    raises(anthropic.BadRequestError, lambda: message(extra_body={"temperature": 9}), status_code=400)


@step
def error_401() -> None:
    stranger = client.with_options(api_key=PLACE["wrong_key"])
    ask = stranger.messages.create
    error = raises(
        anthropic.AuthenticationError, lambda: ask(model=PLACE["chat"], messages=HELLO, max_tokens=8), status_code=401
    )
    assert error.body["error"]["type"] == "authentication_error"


@step
def error_403() -> None:
    ask = client.with_options(api_key=PLACE["limited_key"]).messages.create
    raises(anthropic.PermissionDeniedError, lambda: ask(model=PLACE["chat"], messages=HELLO, max_tokens=8))


@step
def error_404() -> None:
    error = raises(anthropic.NotFoundError, lambda: message(model="nobody"))
    assert error.body["error"]["type"] == "not_found_error"


@step
def error_413() -> None:
    raises(anthropic.RequestTooLargeError, lambda: message(system=LARGE), status_code=413)


@step
def error_422() -> None:
    raises(anthropic.UnprocessableEntityError, lambda: broken("status code=422"), status_code=422)


@step
def error_429() -> None:
    raises(anthropic.RateLimitError, lambda: message(model=PLACE["full"]), status_code=429)


@step
def error_500() -> None:
    raises(anthropic.InternalServerError, lambda: broken("status code=500"), status_code=500)


@step
def error_503() -> None:
    error = raises(anthropic.ServiceUnavailableError, lambda: message(model=PLACE["empty"]), status_code=503)
    assert error.body["error"]["type"] == "overloaded_error"


@step
def error_504() -> None:
    raises(anthropic.DeadlineExceededError, lambda: broken("hang"), status_code=504)


@step
def error_in_the_stream() -> None:
    for fault in ("cut after=3", "error-event after=3"):
        error = raises(anthropic.APIStatusError, lambda fault=fault: list(broken(fault, stream=True)))
        assert "lost" in str(error), error


tell()
