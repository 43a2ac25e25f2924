"""The one real request before a replica is ready: which one, and what counts as its success."""

import asyncio
import json

import pytest

from shoal_serving.replica import self_test
from shoal_serving.replica.door import Receive, Scope, Send


@pytest.mark.parametrize(
    ("tasks", "path"),
    [
        (("generate",), "/v1/completions"),
        (("generate", "transcription"), "/v1/completions"),
        (("embed", "token_embed"), "/v1/embeddings"),
        (("classify", "token_classify"), "/classify"),
        (("token_classify",), "/pooling"),
        (("transcription", "realtime"), "/v1/audio/transcriptions"),
    ],
)
def test_the_request_is_chosen_by_what_the_engine_can_do(tasks: tuple[str, ...], path: str) -> None:
    trial = self_test.trial_for(tasks, "llama")
    assert trial is not None
    assert trial.path == path
    assert b"llama" in trial.body


def test_nothing_is_tried_where_nothing_is_known() -> None:
    assert self_test.trial_for(("render",), "llama") is None


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, {"choices": [{"text": "x"}]}, ""),
        (200, {"error": {"message": "EngineCore died"}}, "EngineCore died"),
        (500, {"error": {"message": "EngineCore died", "type": "InternalServerError"}}, "EngineCore died"),
        (404, {"error": "not here"}, "not here"),
        (500, {}, "{}"),
    ],
)
def test_an_answer_counts_only_as_200_without_an_error(status: int, body: object, reason: str) -> None:
    outcome = self_test.judge(status, json.dumps(body).encode())
    assert outcome.reason == reason
    assert outcome.succeeded is (reason == "")


def test_the_request_goes_through_the_app_as_a_clients_would() -> None:
    seen: dict[str, object] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.update(path=scope["path"], headers=dict(scope["headers"]), body=(await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'{"choices"', "more_body": True})
        await send({"type": "http.response.body", "body": b": []}"})
        assert (await receive())["type"] == "http.disconnect"

    trial = self_test.trial_for(("generate",), "llama")
    assert trial is not None
    assert asyncio.run(self_test.run(app, trial)).succeeded
    assert seen["path"] == "/v1/completions"
    assert json.loads(str(seen["body"], "utf-8")) == {
        "model": "llama",
        "prompt": "Hello",
        "max_tokens": 1,
        "temperature": 0,
    }
