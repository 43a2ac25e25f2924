"""A gateway that asks for keys: who is let in, what each may see and use, how keys come and go while it runs."""

import asyncio
import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from facts import soon
from fake_engine import engines
from gateway_process import Client, Gateway, a_gateway, a_route, ask, chat, command, fetch
from held_ports import a_port

ALICE, BOB, EVE = "sk-alice-0123456789", "sk-bob-0123456789", "sk-eve-0123456789"
OTHER = a_route(name="secret-model", model_uid="uid-s")


def entry(name: str, key: str, *models: str) -> dict[str, Any]:
    return {"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest(), "models": models or ["*"]}


def write(file: Path, *entries: Any) -> None:
    temporary = file.with_suffix(".new")
    temporary.write_text(json.dumps(entries))
    temporary.replace(file)


def bearer(key: str) -> str:
    return f"authorization: Bearer {key}\r\n"


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    file = tmp_path / "keys.yaml"
    write(file, entry("alice", ALICE), entry("bob", BOB, "m"))
    return file


@pytest.fixture
def gateway(keys_file: Path) -> Iterator[Gateway]:
    with a_gateway(keys_file.parent, f"--keys-file={keys_file}") as running:
        yield running
        log = running.log()
        assert "Traceback" not in log
        assert not [key for key in (ALICE, BOB, EVE) if key in log or key in running.get("/metrics")]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/audio/transcriptions"])
def test_each_api_refuses_in_its_own_shape_and_nothing_reaches_an_engine(gateway: Gateway, path: str) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await asyncio.to_thread(gateway.put, a_route(a), OTHER)
            no_key = ["", bearer(EVE), f"x-api-key: {EVE}\r\n", f"{bearer(ALICE)}x-api-key: {BOB}\r\n"]
            no_key.append(f"x-shoal-key: {ALICE}\r\ncookie: key={ALICE}\r\n")
            answers = [await ask(gateway, chat(), path, headers) for headers in no_key]
            for answer in answers:
                assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
                assert answer.headers["x-request-id"]
                if path == "/v1/messages":
                    assert answer.json["type"] == "error"
                    assert answer.error["type"] == "authentication_error"
                else:
                    assert (answer.error["type"], answer.error["code"]) == ("authentication_error", "invalid_api_key")
            if "audio" not in path:
                denied = await ask(gateway, chat(model="secret-model"), path, bearer(BOB))
                assert denied.status == 403
                assert denied.error["type"] == "permission_error"
                assert "www-authenticate" not in denied.headers
                if path != "/v1/messages":
                    assert (denied.error["code"], denied.error["param"]) == ("permission_denied", "model")
            assert a.calls == []
            await soon(lambda: gateway.metric("shoal_held_bytes") == 0)

    asyncio.run(story())


def test_the_key_is_asked_for_after_the_path_and_before_size_type_and_body(gateway: Gateway) -> None:
    async def story() -> None:
        assert (await ask(gateway, b"{", "/v1/nowhere")).status == 404
        assert fetch(gateway, "/v1/chat/completions").status == 405
        assert fetch(gateway, "/health").status == 200
        assert (await ask(gateway, b"x", headers="content-type: text/plain\r\n")).status == 401
        assert (await ask(gateway, b"x", headers="content-type: text/plain\r\n" + bearer(BOB))).status == 415
        async with Client.connect(gateway) as client:
            head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 999999999\r\n"
            client.writer.write(f"{head}expect: 100-continue\r\n\r\n".encode())
            answer = await client.answer()
            assert (answer.status, answer.headers["connection"]) == (401, "close")
        async with Client.connect(gateway) as client:
            client.writer.write(f"{head}{bearer(BOB)}\r\n".encode())
            assert (await client.answer()).status == 413

    asyncio.run(story())


def test_a_right_key_is_served_and_never_reaches_an_engine_or_a_log(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await asyncio.to_thread(gateway.put, a_route(a))
            both = f"{bearer(BOB)}X-API-Key: {BOB}\r\ncookie: s=1\r\nproxy-authorization: Basic x\r\n"
            for headers in (bearer(ALICE), f"x-api-key: {BOB}\r\n", both):
                assert (await ask(gateway, chat(), headers=headers)).status == 200
            assert (await ask(gateway, chat(model="m-alias"), headers=bearer(BOB))).status == 200
            for call in a.calls:
                assert not {"authorization", "x-api-key", "cookie", "proxy-authorization"} & call.headers.keys()
                assert not [value for value in call.headers.values() if ALICE in value or BOB in value]
            assert len(a.calls) == 4
            await soon(lambda: gateway.log().count(" key=bob ") == 3 and gateway.log().count(" key=alice ") == 1)

    asyncio.run(story())


def test_the_list_and_near_names_show_what_the_key_may_use(gateway: Gateway) -> None:
    gateway.put(a_route(), OTHER)

    def ids(key: str) -> list[str]:
        return [found["id"] for found in fetch(gateway, "/v1/models", headers={"x-api-key": key}).json["data"]]

    def get(name: str, key: str) -> int:
        return fetch(gateway, f"/v1/models/{name}", headers={"authorization": f"Bearer {key}"}).status

    assert ids(ALICE) == ["m", "secret-model", "m-alias", "secret-model-alias"]
    assert ids(BOB) == ["m", "m-alias"]
    assert [get("m", BOB), get("secret-model", BOB), get("nobody", BOB), get("secret-model", ALICE)] == [
        200,
        403,
        404,
        200,
    ]
    for path in ("/v1/models", "/v1/models/m"):
        answer = fetch(gateway, path)
        assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
        assert answer.headers["www-authenticate"] == "Bearer"
    for key, near in ((ALICE, True), (BOB, False)):
        refused = asyncio.run(ask(gateway, chat(model="secret-modl"), headers=bearer(key)))
        assert (refused.status, refused.error["code"]) == (404, "model_not_found")
        assert ("secret-model" in refused.error["message"]) is near


def test_keys_come_and_go_within_seconds_and_a_broken_file_changes_nothing(gateway: Gateway, keys_file: Path) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await asyncio.to_thread(gateway.put, a_route(a))

            async def status(key: str) -> int:
                return (await ask(gateway, chat(), headers=bearer(key))).status

            async def reloaded(mark: str, count: int) -> None:
                await soon(lambda: gateway.log().count(mark) == count)

            assert [await status(key) for key in (ALICE, BOB, EVE)] == [200, 200, 401]
            write(keys_file, entry("bob", BOB, "m"), entry("eve", EVE))
            await reloaded("reason=Keys ", 2)
            assert [await status(key) for key in (ALICE, BOB, EVE)] == [401, 200, 200]
            broken = keys_file.with_suffix(".broken")
            broken.write_text("- name: [")
            broken.replace(keys_file)
            await reloaded("reason=KeptLastKeys", 1)
            assert [await status(key) for key in (ALICE, BOB, EVE)] == [401, 200, 200]
            await asyncio.to_thread(keys_file.unlink)
            await reloaded("reason=KeptLastKeys", 2)
            assert await status(EVE) == 200
            write(keys_file)
            await reloaded("reason=Keys ", 3)
            assert [await status(key) for key in (ALICE, BOB, EVE)] == [401, 401, 401]

    asyncio.run(story())


def test_a_mounted_secret_is_read_again_when_its_links_are_swapped(tmp_path: Path) -> None:
    for version, key in (("one", ALICE), ("two", BOB)):
        (tmp_path / version).mkdir()
        (tmp_path / version / "keys").write_text(json.dumps([entry("somebody", key)]))
    data, file = tmp_path / "..data", tmp_path / "keys"
    data.symlink_to("one")
    file.symlink_to("..data/keys")
    with a_gateway(tmp_path, f"--keys-file={file}") as gateway:
        gateway.put(a_route())
        assert fetch(gateway, "/v1/models", headers={"x-api-key": BOB}).status == 401
        swapped = tmp_path / "..data_tmp"
        swapped.symlink_to("two")
        swapped.replace(data)
        asyncio.run(soon(lambda: fetch(gateway, "/v1/models", headers={"x-api-key": BOB}).status == 200))
        assert fetch(gateway, "/v1/models", headers={"x-api-key": ALICE}).status == 401


def test_a_file_that_cannot_be_used_at_the_start_is_told_in_one_sentence(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("ab" * 32)
    file = tmp_path / "keys.json"
    flags = ["--routes=r", f"--master-key-file={key}", f"--keys-file={file}", "--listen=0.0.0.0:0"]

    def told(*more: str) -> list[str]:
        ended = subprocess.run(command(*flags, *more), capture_output=True, text=True)
        assert ended.returncode == 2
        return ended.stderr.splitlines()

    assert told() == [f"--keys-file: {file} cannot be read (No such file or directory)."]
    write(file, {"name": "a", "sha256": ALICE, "models": []})
    (sentence,) = told()
    assert sentence.startswith(f"--keys-file: {file}: [0].sha256: 64 hexadecimal digits are expected")
    assert ALICE not in sentence
    write(file)
    (sentence,) = told("--allow-anonymous")
    assert sentence.startswith("--allow-anonymous: with --keys-file")


def test_with_keys_an_address_that_others_reach_needs_no_other_permission(keys_file: Path) -> None:
    port = a_port()
    with a_gateway(keys_file.parent, f"--keys-file={keys_file}", f"--listen=0.0.0.0:{port}") as gateway:
        gateway.port = port
        assert fetch(gateway, "/v1/models", headers={"x-api-key": EVE}).status == 401
        assert fetch(gateway, "/v1/models", headers={"x-api-key": ALICE}).status == 200
