"""What the gateway answers to which path, method and model name, and in which order it looks."""

import asyncio

import pytest

from fake_engine import engines
from gateway_process import Gateway, ask, chat, fetch, one_gateway, put
from shoal_serving.gateway.surfaces import SURFACES

gateway = one_gateway()


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"{", "", 400, "invalid_json"),
        (b"", "", 400, "invalid_json"),
        (b"[1]", "", 400, "invalid_json"),
        (b"{}", "", 400, "missing_required_parameter"),
        (b'{"model": "m"}', "content-type: text/plain\r\n", 415, "unsupported_media_type"),
        (b'{"model": "nobody"}', "", 404, "model_not_found"),
        (b'{"model": "nobody"', "content-type: text/plain\r\n", 415, "unsupported_media_type"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/embeddings"])
def test_checks_come_in_their_order_and_in_the_dialects_shape(
    gateway: Gateway, path: str, body: bytes, headers: str, status: int, code: str
) -> None:
    async def story() -> None:
        answer = await ask(gateway, body, path, headers)
        assert answer.status == status
        assert answer.headers["x-request-id"]
        if path == "/v1/messages":
            assert answer.json["type"] == "error"
            assert set(answer.error) == {"type", "message"}
        else:
            assert answer.error["code"] == code

    asyncio.run(story())


@pytest.mark.parametrize("path", [surface.path for surface in SURFACES.values() if not surface.is_form])
def test_every_inference_path_is_routed_by_its_model(gateway: Gateway, path: str) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await put(gateway, a)
            assert (await ask(gateway, chat(), path)).status == 200
            assert a.calls[0].path == path

    asyncio.run(story())


@pytest.mark.parametrize(
    "path",
    [
        "/invocations",
        "/sleep",
        "/v1/load_lora_adapter",
        "/metrics",
        "/load",
        "/collective_rpc",
        "/shoal/drain",
        "/ping",
        "/v1/nothing",
        "/",
        "/docs",
        "/v1/chat/completions/",
        "/v1/chat/completions/render",
        "/inference/v1/generate",
    ],
)
def test_every_other_path_is_unknown_and_reaches_no_engine(gateway: Gateway, path: str) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await put(gateway, a)
            answer = await ask(gateway, chat(), path)
            assert (answer.status, answer.error["code"]) == (404, "unknown_url")
            assert (await asyncio.to_thread(fetch, gateway, path)).status == 404
            assert not a.calls

    asyncio.run(story())


def test_wrong_methods_are_405_in_the_apis_shape(gateway: Gateway) -> None:
    answer = fetch(gateway, "/v1/chat/completions")
    assert (answer.status, answer.headers["allow"], answer.error["code"]) == (405, "POST", "method_not_allowed")
    answer = fetch(gateway, "/v1/messages", "DELETE")
    assert (answer.status, answer.json["type"]) == (405, "error")
    answer = fetch(gateway, "/v1/models", "POST")
    assert (answer.status, answer.error["code"]) == (405, "method_not_allowed")


def test_models_are_listed_also_at_zero_replicas_and_found_by_every_name(gateway: Gateway) -> None:
    async def story() -> None:
        await put(gateway, served_name="org/m", names=["org/m", "m:latest"])
        listed = (await asyncio.to_thread(fetch, gateway, "/v1/models")).json
        assert [model["id"] for model in listed["data"]] == ["org/m", "m:latest"]
        expected = {"id": "org/m", "object": "model", "created": 1767312000, "owned_by": "shoal"}
        assert listed["data"][0] == expected
        assert (await asyncio.to_thread(fetch, gateway, "/v1/models/org/m")).json == expected
        assert (await asyncio.to_thread(fetch, gateway, "/v1/models/org%2Fm")).json == expected
        answer = await asyncio.to_thread(fetch, gateway, "/v1/models/org/n")
        assert (answer.status, answer.error["code"]) == (404, "model_not_found")
        assert "`org/m`" in answer.error["message"]

    asyncio.run(story())
