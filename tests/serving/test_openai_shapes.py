"""The model is found anywhere at the top level, and nothing but its value is ever changed."""

import json
from typing import Any

import pytest

from shoal_serving.gateway import openai_shapes
from shoal_serving.gateway.errors import Refusal
from shoal_serving.gateway.openai_shapes import Asked

DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        (b'{"model":"m"}', ("m", False)),
        (b' {"messages":[{"model":"x"}], "stream" : true ,\n"model"\t:\r\n"m" } ', ("m", True)),
        (b'{"model":"a","model":"b"}', ("b", False)),
        (rb'{"mod\u0065l":"\u006d"}', ("m", False)),
        (b'{"model":"m","stream":"true"}', ("m", False)),
        ('{"model":"größe/模型"}'.encode(), ("größe/模型", False)),
    ],
)
def test_what_a_body_asks_for(body: bytes, asked: tuple[str, bool]) -> None:
    found = openai_shapes.read(body)
    assert isinstance(found, Asked)
    assert (found.model, found.stream) == asked


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"[]", "invalid_json"),
        (b'"m"', "invalid_json"),
        (b'{"model":"m"', "invalid_json"),
        (b'{"model":"m"} x', "invalid_json"),
        (b'{"model":"\xff"}', "invalid_json"),
        (DEEP, "invalid_json"),
        (b'{"model":"m","x":' + DEEP, "invalid_json"),
        (b"{}", "missing_required_parameter"),
        (b'{"model":null}', "missing_required_parameter"),
        (b'{"model":""}', "missing_required_parameter"),
        (b'{"model":7}', "invalid_type"),
        (b'{"x":{"model":"m"}}', "missing_required_parameter"),
    ],
)
def test_why_a_body_is_refused(body: bytes, code: str) -> None:
    refusal = openai_shapes.read(body)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (400, code)


@pytest.mark.parametrize(
    ("body", "changed"),
    [
        (b'{"model":"alias"}', b'{"model":"m"}'),
        (b'{ "model" : "alias" , "x":1.0e5}', b'{ "model" : "m" , "x":1.0e5}'),
        (b'{"messages":[{"model":"alias"}],"model":"alias"}', b'{"messages":[{"model":"alias"}],"model":"m"}'),
        (rb'{"x":"\u00e9","mod\u0065l":"alias"}', rb'{"x":"\u00e9","mod\u0065l":"m"}'),
        (
            b'{"x":{"model":"alias"},"y":"model", "model" :"alias" }',
            b'{"x":{"model":"alias"},"y":"model", "model" :"m" }',
        ),
        (b'{"model":"alias","model":"alias"}', b'{"model":"m","model":"m"}'),
        (rb'{"x":"\"model\":\"alias\"","model":"al\"ias"}', rb'{"x":"\"model\":\"alias\"","model":"m"}'),
        ('{"x":"é","model":"größe"}'.encode(), '{"x":"é","model":"m"}'.encode()),
    ],
)
def test_only_the_value_of_the_top_level_model_changes(body: bytes, changed: bytes) -> None:
    assert openai_shapes.with_model(body, "m") == changed


def test_a_name_with_quotes_is_written_as_json() -> None:
    assert json.loads(openai_shapes.with_model(b'{"model":"a"}', 'x"y\\')) == {"model": 'x"y\\'}


@pytest.mark.parametrize(
    ("asked", "near"),
    [("QWEN-7B", "qwen-7b"), ("qwen-7", "qwen-7b"), ("qwen", "qwen-7b"), ("lama-8b", "llama-8b"), ("zzz", None)],
)
def test_near_names_are_told(asked: str, near: str | None) -> None:
    message = openai_shapes.not_found(asked, ["qwen-7b", "llama-8b"]).message
    assert (f"Did you mean `{near}`" in message) if near else ("Did you mean" not in message)


def test_an_endless_name_is_neither_compared_nor_repeated() -> None:
    assert len(openai_shapes.not_found("m" * 10_000_000, ["m"]).message) < 400


@pytest.mark.parametrize(
    ("fields", "user"),
    [
        ({}, ""),
        ({"user": "u"}, "u"),
        ({"user": "u", "safety_identifier": "s"}, "s"),
        ({"metadata": {"user_id": "m"}}, "m"),
        ({"user": "u", "metadata": {"user_id": "m"}}, "u"),
        ({"metadata": "text", "prompt_cache_key": "k"}, ""),
        ({"metadata": {"user_id": 7}}, ""),
        ({"user": ["u"]}, ""),
        ({"user": "x" * 100_000}, "x" * 128),
    ],
)
def test_for_whom_a_body_asks(fields: dict[str, Any], user: str) -> None:
    assert openai_shapes.user_of(fields) == user
