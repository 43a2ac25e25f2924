"""The story of `litellm` as a client."""

from typing import Any

import litellm
from story import HELLO, LARGE, PLACE, raises, step, tell

litellm.suppress_debug_info = True
AT: dict[str, Any] = {"api_base": PLACE["url"] + "/v1", "api_key": PLACE["key"], "num_retries": 0, "max_retries": 0}


def chat(name: str = "chat", **fields: Any) -> Any:
    model = "openai/" + PLACE.get(name, name)
    return litellm.completion(**{"model": model, "messages": HELLO, "max_tokens": 8, "timeout": 60, **AT, **fields})


def broken(fault: str, **fields: Any) -> Any:
    return chat("faulty", extra_headers={"x-simulate": fault}, **fields)


@step
def chats() -> None:
    answer = chat(temperature=0)
    assert answer.usage.completion_tokens == 8
    assert answer.choices[0].message.content


@step
def streams() -> None:
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chat(temperature=0, stream=True))
    assert text == chat(temperature=0).choices[0].message.content


@step
def embeds() -> None:
    asked = {"model": "openai/" + PLACE["embed"], "input": ["A cat", "A kitten"], "encoding_format": "float"}
    assert len(litellm.embedding(**asked, **AT).data) == 2


@step
def responds() -> None:
    answer = litellm.responses(
        model="openai/" + PLACE["chat"], input="Hello", max_output_tokens=20, **AT
    )  # 16 at least
    assert answer.usage.output_tokens == 20


@step
def messages() -> None:
    """Anthropic's surface, asked through litellm's own client for it."""
    answer = litellm.completion(
        model="anthropic/" + PLACE["chat"], messages=HELLO, max_tokens=8, api_base=PLACE["url"], api_key=PLACE["key"]
    )
    assert answer.usage.completion_tokens == 8


@step
def error_400() -> None:
    raises(litellm.BadRequestError, lambda: chat(temperature=9), status_code=400)


@step
def error_401() -> None:
    raises(litellm.AuthenticationError, lambda: chat(api_key=PLACE["wrong_key"]), status_code=401)


@step
def error_403() -> None:
    raises(litellm.APIError, lambda: chat(api_key=PLACE["limited_key"]), status_code=403)


@step
def error_404() -> None:
    raises(litellm.NotFoundError, lambda: chat("nobody"), status_code=404)


@step
def error_413() -> None:
    raises(litellm.BadRequestError, lambda: chat(messages=[{"role": "user", "content": LARGE}]))


@step
def error_422() -> None:
    raises(litellm.BadRequestError, lambda: broken("status code=422"))


@step
def error_429() -> None:
    raises(litellm.RateLimitError, lambda: chat("full"), status_code=429)


@step
def error_500() -> None:
    raises(litellm.InternalServerError, lambda: broken("status code=500"), status_code=500)


@step
def error_503() -> None:
    raises(litellm.ServiceUnavailableError, lambda: chat("empty"), status_code=503)


@step
def error_504() -> None:
    raises(litellm.Timeout, lambda: broken("hang"), status_code=504)


@step
def error_in_the_stream() -> None:
    raises(litellm.exceptions.MidStreamFallbackError, lambda: list(broken("cut after=3", stream=True)))


tell()
