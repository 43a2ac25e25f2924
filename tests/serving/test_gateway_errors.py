"""Every error has the shape of the API that was asked, whatever vLLM said (shapes as seen from vLLM 0.32)."""

import json
from typing import Any

import pytest

from shoal_serving.gateway import errors
from shoal_serving.gateway.errors import Outcome, Refusal
from shoal_serving.gateway.surfaces import Dialect

INVALID, UNFOUND, BROKEN = "invalid_request_error", "not_found_error", "server_error"
OVER, TOO_LONG = "server_is_overloaded", "This model's maximum context length is 8 tokens"
VLLM = {
    "object": "error",
    "message": "temperature must be in [0, 2]",
    "type": "BadRequestError",
    "param": "temperature",
}


def shaped(status: int, found: Any, dialect: Dialect = Dialect.OPENAI) -> Any:
    content = found if isinstance(found, bytes) else json.dumps(found).encode()
    return json.loads(errors.body(errors.read(status, content, dialect), dialect))


@pytest.mark.parametrize(
    ("status", "found", "kind", "param", "code"),
    [
        (400, {"error": {**VLLM, "code": 400}}, INVALID, "temperature", None),
        (400, {**VLLM, "code": 400}, INVALID, "temperature", None),
        (404, {"error": {"message": "x", "type": "NotFoundError", "param": "model"}}, UNFOUND, "model", "not_found"),
        (404, {"detail": "Not Found"}, UNFOUND, None, "not_found"),
        (401, {"error": "Unauthorized"}, "authentication_error", None, None),
        (400, {"error": {"message": "m", "type": "Bad Request", "param": "body.messages"}}, INVALID, "messages", None),
        (400, {"error": {"message": "m", "param": "body.tools.0.name"}}, INVALID, "tools[0].name", None),
        (400, {"error": {"message": TOO_LONG}}, INVALID, None, "context_length_exceeded"),
        (500, b"Internal Server Error", BROKEN, None, "engine_error"),
        (500, b"", BROKEN, None, "engine_error"),
        (500, b"<html>", BROKEN, None, "engine_error"),
        (500, b"[[" * 50_000, BROKEN, None, "engine_error"),
        (503, {"error": {"message": "m", "type": "Service Unavailable"}}, "service_unavailable_error", None, OVER),
        (400, {"error": {"message": "m", "type": "my_error", "code": "my_code"}}, "my_error", None, "my_code"),
    ],
)
def test_an_engines_error_in_openais_shape(
    status: int, found: Any, kind: str, param: str | None, code: str | None
) -> None:
    error = shaped(status, found)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"], error["code"]) == (kind, param, code)
    assert error["message"]


def test_a_list_of_fields_becomes_one_sentence_and_the_first_field() -> None:
    fields = [
        {"loc": ["body", "messages", 0, "role"], "msg": "Field required", "input": "secret"},
        {"loc": ["body", "n"], "msg": "bad"},
    ]
    error = shaped(422, {"detail": fields})["error"]
    assert error["message"] == "messages[0].role: Field required; n: bad"
    assert error["param"] == "messages[0].role"


def test_a_message_is_bounded() -> None:
    assert len(shaped(500, {"error": {"message": "x" * 1_000_000}})["error"]["message"]) <= errors.MESSAGE_LIMIT


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, INVALID), (404, UNFOUND), (429, "rate_limit_error"), (500, "api_error"), (503, "overloaded_error")],
)
def test_messages_api_has_its_own_shape(status: int, kind: str) -> None:
    found = shaped(status, {"error": {"message": "why", "type": "NotFoundError"}}, Dialect.MESSAGES)
    assert found == {"type": "error", "error": {"type": kind, "message": "why"}}


def test_the_frame_that_ends_a_stream() -> None:
    refusal = Refusal(500, "why", "upstream_lost")
    chat = errors.event(refusal, Dialect.OPENAI)
    assert chat.startswith(b"data: ")
    assert chat.endswith(b"\n\n")
    assert json.loads(chat[6:]) == {
        "error": {"message": "why", "type": "server_error", "param": None, "code": "upstream_lost"}
    }
    assert errors.event(refusal, Dialect.MESSAGES).startswith(b'event: error\ndata: {"type": "error", "error": {')
    responses = json.loads(errors.event(refusal, Dialect.RESPONSES).split(b"data: ")[1])
    assert (responses["type"], responses["code"]) == ("error", "upstream_lost")


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ({"error": {"code": 503}}, 503),
        ({"error": {"code": "503"}}, 503),
        ({"error": {"code": "boom"}}, 500),
        ({"error": {"code": 400}}, 400),
        ({"error": "x"}, 500),
        ({"type": "error", "error": {"type": "overloaded_error"}}, 503),
        ({"error": {"code": 200}}, 500),
        ("x", 500),
    ],
)
def test_the_status_that_an_error_event_means(found: Any, status: int) -> None:
    assert errors.status_of_event(found) == status


def test_hints_when_to_come_again() -> None:
    lines = errors.retry_headers(Refusal(503, "m", retry_after_seconds=1.25, should_retry=True))
    assert lines == b"retry-after: 2\r\nretry-after-ms: 1250\r\nx-should-retry: true\r\n"
    assert errors.retry_headers(Refusal(503, "m")) == b""


@pytest.mark.parametrize(
    ("refusal", "outcome"),
    [
        (Refusal(404, "m"), Outcome.CLIENT_ERROR),
        (Refusal(429, "m", "queue_full"), Outcome.QUEUE_FULL),
        (Refusal(500, "m"), Outcome.ENGINE_ERROR),
        (Refusal(503, "m"), Outcome.OVERLOADED),
        (Refusal(504, "m"), Outcome.TIMEOUT),
    ],
)
def test_what_a_refusal_counts_as(refusal: Refusal, outcome: Outcome) -> None:
    assert refusal.outcome is outcome
