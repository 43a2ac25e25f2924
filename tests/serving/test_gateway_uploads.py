"""Multipart uploads through a gateway process: found, rewritten, refused, streamed, and not held twice."""

import asyncio
import os
from pathlib import Path

import pytest

from facts import soon
from fake_engine import MASTER_KEY, Call, engines
from gateway_process import Client, Gateway, a_gateway, a_route, ask, one_gateway
from shoal_api import proof
from shoal_api.routes import Endpoint
from shoal_serving.replica.admission import Admission
from simulated import UID, simulated

BOUNDARY = "b0undary"
KIND = f"content-type: multipart/form-data; boundary={BOUNDARY}\r\n"
PATHS = ("/v1/audio/transcriptions", "/v1/audio/translations")
MIB = 1024 * 1024


gateway = one_gateway()


def form(*fields: tuple[str, bytes]) -> bytes:
    pieces = []
    for name, value in fields:
        more = b'; filename="a.wav"\r\ncontent-type: audio/wav' if name == "file" else b""
        head = f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="{name}"'.encode()
        pieces += [head, more, b"\r\n\r\n", value, b"\r\n"]
    return b"".join(pieces) + f"--{BOUNDARY}--\r\n".encode()


async def hear(call: Call) -> None:
    call.json({"text": "heard"})


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("model", ["m", "m-alias"])
@pytest.mark.parametrize("size", [10, 200_000])
def test_the_engine_gets_the_form_with_its_own_name_in_it(gateway: Gateway, path: str, model: str, size: int) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            a.always = hear
            await asyncio.to_thread(gateway.put, a_route(a))
            sound = os.urandom(size)
            for order in (("file", "model"), ("model", "file")):
                values = {"file": sound, "model": model.encode()}
                answer = await ask(gateway, form(*((name, values[name]) for name in order)), path, KIND)
                assert (answer.status, answer.json) == (200, {"text": "heard"})
                assert answer.headers["x-shoal-model"].startswith("default/m;")
                call = a.calls[-1]
                assert (call.path, call.headers["content-type"]) == (path, KIND[14:-2])
                assert call.body == form(*((name, b"m" if name == "model" else sound) for name in order))

    asyncio.run(story())


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (form(("file", b"x"), ("model", b"m")), "", 415, "unsupported_media_type"),
        (b'{"model":"m"}', KIND, 400, "invalid_multipart"),
        (b"", KIND, 400, "invalid_multipart"),
        (form(("model", b"m"))[:-6], KIND, 400, "invalid_multipart"),
        (form(("model", b"m")), "content-type: multipart/form-data\r\n", 400, "invalid_multipart"),
        (form(("file", b"x")), KIND, 400, "missing_required_parameter"),
        (form(("file", b"x"), ("model", b"nobody")), KIND, 404, "model_not_found"),
    ],
)
@pytest.mark.parametrize("path", PATHS)
def test_what_cannot_be_understood_is_refused_in_openais_shape(
    gateway: Gateway, path: str, body: bytes, headers: str, status: int, code: str
) -> None:
    answer = asyncio.run(ask(gateway, body, path, headers))
    assert (answer.status, answer.error["code"]) == (status, code)
    assert answer.error.keys() == {"message", "type", "param", "code"}


def test_a_form_cannot_be_sent_to_a_path_that_takes_json(gateway: Gateway) -> None:
    assert asyncio.run(ask(gateway, form(("model", b"m")), headers=KIND)).status == 415


def test_a_lost_engine_is_replaced_and_the_whole_form_sent_again(gateway: Gateway) -> None:
    async def lose(call: Call) -> None:
        call.reset()

    async def story() -> None:
        async with engines("a", "b") as (a, b):
            a.always, b.always = lose, hear
            await asyncio.to_thread(gateway.put, a_route(a, b))
            body = form(("file", os.urandom(300_000)), ("model", b"m-alias"))
            for _ in range(40):
                assert (await ask(gateway, body, PATHS[0], KIND)).status == 200
                if a.calls:
                    break
            assert {call.body for call in (*a.calls, *b.calls)} == {body.replace(b"m-alias", b"m")}
            assert (len(a.calls), b.calls[-1].path) == (1, PATHS[0])

    asyncio.run(story())


def test_a_streamed_transcription_is_held_until_its_first_event_is_no_error(gateway: Gateway) -> None:
    async def fail(call: Call) -> None:
        call.head()
        call.event({"error": {"message": "no room", "type": "X", "param": None, "code": 503}})
        call.done()

    async def stream(call: Call) -> None:
        call.head()
        call.event({"choices": [{"delta": {"content": "heard"}}]})
        call.done()

    async def silent(call: Call) -> None:
        await call.gone.wait()

    async def story() -> None:
        async with engines("a", "b") as (a, b):
            a.always, b.always = fail, stream
            await asyncio.to_thread(gateway.put, a_route(a, b))
            body = form(("file", b"x"), ("model", b"m"), ("stream", b"true"))
            for _ in range(4):
                answer = await ask(gateway, body, PATHS[0], KIND)
                assert (answer.status, answer.text, answer.events[-1]) == (200, "heard", "[DONE]")
            # A held stream gets heartbeats; a form without `stream` gets none.
            a.always = b.always = silent
            await asyncio.to_thread(gateway.put, a_route(a, queue={"heartbeatAfterSeconds": 0.2}))
            async with Client.connect(gateway) as client, Client.connect(gateway) as plain:
                plain.send(form(("file", b"x"), ("model", b"m")), PATHS[0], KIND)
                client.send(body, PATHS[0], KIND)
                assert (await client.head()).headers["content-type"].startswith("text/event-stream")
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await plain.head()

    asyncio.run(story())


def resident_mib(gateway: Gateway, field: str) -> float:
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def test_a_20_mb_upload_reaches_the_simulator_and_lies_in_memory_once(tmp_path: Path) -> None:
    async def story() -> None:
        admission = Admission(proof.model_key(MASTER_KEY, "uid-m"), UID, 0)
        async with simulated(admission=admission) as engine:
            endpoint = Endpoint(replica="sim-0", uid=UID, host="127.0.0.1", port=engine.port)
            route = a_route().model_copy(update={"endpoints": [endpoint]})
            await asyncio.to_thread(gateway.put, route)
            small = form(("file", b"x"), ("model", b"m"))
            assert (await ask(gateway, small, PATHS[0], KIND)).status == 200
            before = resident_mib(gateway, "VmHWM")
            body = form(("file", os.urandom(20 * MIB)), ("model", b"m-alias"))
            answer = await ask(gateway, body, PATHS[0], KIND)
            assert answer.status == 200, answer.body
            assert answer.json["usage"]["seconds"] == 20 * MIB // 32_000
            grown = resident_mib(gateway, "VmHWM") - before
            print(f"an upload of 20 MiB made the gateway's largest size grow by {grown:.1f} MiB")
            assert 16 < grown < 32
            await soon(lambda: gateway.metric("shoal_held_bytes") == 0)
            too_large = form(("file", bytes(33 * MIB)), ("model", b"m"))
            assert (await ask(gateway, too_large[: 33 * MIB], PATHS[0], KIND)).status == 413

    with a_gateway(tmp_path) as gateway:
        asyncio.run(story())
        assert "Traceback" not in gateway.log()
