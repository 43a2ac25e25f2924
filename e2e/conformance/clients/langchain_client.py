"""The story of `langchain-openai`."""

from typing import Any

import openai
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from story import LARGE, PLACE, raises, step, tell


def model(name: str = "chat", **fields: Any) -> ChatOpenAI:
    given = {"model": PLACE[name], "api_key": PLACE["key"], "max_tokens": 8, "temperature": 0.0, "timeout": 60}
    return ChatOpenAI(base_url=PLACE["url"] + "/v1", max_retries=0, **{**given, **fields})


def broken(fault: str, **fields: Any) -> ChatOpenAI:
    return model("faulty", default_headers={"x-simulate": fault}, **fields)


@step
def chats() -> None:
    answer = model().invoke("Hello")
    assert answer.usage_metadata["output_tokens"] == 8
    assert answer.response_metadata["model_name"] == PLACE["chat"]


@step
def streams() -> None:
    whole = model().invoke("Hello").content
    assert "".join(chunk.content for chunk in model().stream("Hello")) == whole


@step
def embeds() -> None:
    embedder = OpenAIEmbeddings(
        model=PLACE["embed"],
        base_url=PLACE["url"] + "/v1",
        api_key=PLACE["key"],
        check_embedding_ctx_length=False,  # its token ids are those of another model's tokenizer
    )
    rows = embedder.embed_documents(["A cat", "A kitten"])
    assert len(rows) == 2
    assert len(rows[0]) == len(embedder.embed_query("A cat"))


@step
def responds() -> None:
    answer = model(use_responses_api=True).invoke("Hello")
    assert answer.usage_metadata["output_tokens"] == 8


@step
def error_400() -> None:
    raises(openai.BadRequestError, lambda: model(temperature=9.0).invoke("Hello"), param="temperature")


@step
def error_401() -> None:
    raises(openai.AuthenticationError, lambda: model(api_key=PLACE["wrong_key"]).invoke("Hello"))


@step
def error_403() -> None:
    raises(openai.PermissionDeniedError, lambda: model(api_key=PLACE["limited_key"]).invoke("Hello"))


@step
def error_404() -> None:
    raises(openai.NotFoundError, lambda: model(model="nobody").invoke("Hello"), code="model_not_found")


@step
def error_413() -> None:
    raises(openai.APIStatusError, lambda: model().invoke(LARGE), status_code=413)


@step
def error_422() -> None:
    raises(openai.UnprocessableEntityError, lambda: broken("status code=422").invoke("Hello"))


@step
def error_429() -> None:
    raises(openai.RateLimitError, lambda: model("full").invoke("Hello"), code="queue_full")


@step
def error_500() -> None:
    raises(openai.InternalServerError, lambda: broken("status code=500").invoke("Hello"), status_code=500)


@step
def error_503() -> None:
    raises(openai.InternalServerError, lambda: model("empty").invoke("Hello"), status_code=503)


@step
def error_504() -> None:
    raises(openai.InternalServerError, lambda: broken("hang").invoke("Hello"), status_code=504)


@step
def error_in_the_stream() -> None:
    raises(openai.APIError, lambda: list(broken("cut after=3").stream("Hello")), code="upstream_lost")


tell()
