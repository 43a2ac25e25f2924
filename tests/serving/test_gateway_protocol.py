"""HTTP as clients speak it, well and badly: bodies, connections, headers, back-pressure."""

import asyncio
import json

import pytest

import fake_engine
from facts import soon
from fake_engine import Call, engines
from gateway_process import Client, Gateway, ask, chat, one_gateway, put

LIMIT = 3_000_000


gateway = one_gateway(f"--max-body-bytes={LIMIT}")


def test_several_requests_on_one_connection_are_answered_in_order_also_when_pipelined(gateway: Gateway) -> None:
    async def echo(call: Call) -> None:
        await asyncio.sleep(0.02 if call.asked["n"] == 0 else 0)
        call.json({"n": call.asked["n"]})

    async def story() -> None:
        async with engines("a") as (a,):
            a.always = echo
            await put(gateway, a)
            async with Client.connect(gateway) as client:
                for number in range(3):
                    client.send(chat(n=number))
                client.writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
                client.send(chat(n=3))
                assert [(await client.answer()).json["n"] for _ in range(3)] == [0, 1, 2]
                assert (await client.answer()).json == {"status": "ok"}
                assert (await client.answer()).json["n"] == 3

    asyncio.run(story())


def test_a_pipelined_request_waits_until_its_client_has_taken_the_answer_before(gateway: Gateway) -> None:
    async def answers(call: Call) -> None:
        if call.asked["stream"]:
            call.head()
            call.token("x" * 100_000)
            call.done()
        else:
            call.json({"text": "y" * (7_000_000 if "large" in call.asked else 1)})

    async def story() -> None:
        async with engines("a") as (a,):
            a.always = answers
            await put(gateway, a)
            async with Client.connect(gateway, limit=1000) as client:
                client.send(chat(large=True))
                client.send(chat(stream=True))
                client.send(chat(stream=True))
                await soon(lambda: len(a.calls) == 1 and a.running == 0)
                # Who asks later is answered first: else what nobody reads would pile up.
                assert (await ask(gateway, chat())).status == 200
                assert len(a.calls) == 2
                assert len((await client.answer()).json["text"]) == 7_000_000
                assert [len((await client.answer()).text) for _ in range(2)] == [100_000] * 2

    asyncio.run(story())


def test_a_client_that_leaves_behind_pipelined_requests_is_missed(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            a.always = fake_engine.hang
            await put(gateway, a)
            async with Client.connect(gateway) as client:
                client.send(chat())
                await soon(lambda: a.running == 1)
                held = await asyncio.to_thread(gateway.metric, "shoal_held_bytes")
                client.send(chat())
                await soon(lambda: gateway.metric("shoal_held_bytes") > held)
            await soon(lambda: a.running == 0)
            assert len(a.calls) == 1
            await soon(lambda: gateway.metric("shoal_held_bytes") == 0)

    asyncio.run(story())


def test_any_number_of_pipelined_requests_is_answered(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await put(gateway, a)
            async with Client.connect(gateway) as client:
                for _ in range(100):
                    client.send(chat())
                assert [(await client.answer()).status for _ in range(100)] == [200] * 100

    asyncio.run(story())


def test_a_large_body_before_a_head_in_two_pieces_is_not_taken_for_headers(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await put(gateway, a)
            async with Client.connect(gateway) as client:
                content = json.dumps(chat(text="y" * 200_000)).encode()
                head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n"
                request = f"{head}content-type: application/json\r\n\r\n".encode() + content
                for _ in range(5):
                    client.writer.write(request + request[:30])
                    assert (await client.answer()).status == 200
                    client.writer.write(request[30:])
                    assert (await client.answer()).status == 200

    asyncio.run(story())


def test_a_request_behind_one_that_ends_the_connection_holds_nothing(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a") as (a,), Client.connect(gateway) as client:
            await put(gateway, a)
            client.send(chat(model="unknown"), headers="connection: close\r\n")
            client.send(chat())
            assert (await client.answer()).status == 404
            assert await client.is_closed()
            await soon(lambda: gateway.metric("shoal_held_bytes") == 0)
            assert a.calls == []

    asyncio.run(story())


def test_a_chunked_body_sent_byte_by_byte_is_one_body(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await put(gateway, a)
            content = json.dumps(chat()).encode()
            async with Client.connect(gateway) as client:
                head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
                data = head + b"transfer-encoding: chunked\r\n\r\n"
                data += b"".join(b"1\r\n%c\r\n" % byte for byte in content) + b"0\r\nx-trailer: 1\r\n\r\n"
                for at in range(0, len(data), 7):
                    client.writer.write(data[at : at + 7])
                    await client.writer.drain()
                assert (await client.answer()).status == 200
            assert a.calls[0].body == content
            assert "transfer-encoding" not in a.calls[0].headers
            assert "x-trailer" not in a.calls[0].headers

    asyncio.run(story())


def test_a_client_that_asks_before_it_sends_is_told_to_go_on(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await put(gateway, a)
            content = json.dumps(chat()).encode()
            async with Client.connect(gateway) as client:
                head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n"
                client.writer.write(head.encode() + b"content-type: application/json\r\nexpect: 100-continue\r\n\r\n")
                assert (await client.head()).status == 100
                client.writer.write(content)
                assert (await client.answer()).status == 200
            assert "expect" not in a.calls[0].headers

    asyncio.run(story())


def test_a_client_that_asks_before_its_turn_is_told_to_go_on_when_it_comes(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            may_answer = asyncio.Event()

            async def slow(call: Call) -> None:
                await may_answer.wait()
                call.json({"n": 1})

            a.script = [slow]
            await put(gateway, a)
            content = json.dumps(chat()).encode()
            async with Client.connect(gateway) as client:
                client.send(chat())
                head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n"
                head += "expect: 100-continue\r\ncontent-type: application/json\r\n\r\n"
                client.writer.write(head.encode())
                await soon(lambda: a.running == 1)
                may_answer.set()
                assert (await client.answer()).json == {"n": 1}
                assert (await client.head()).status == 100
                client.writer.write(content)
                assert (await client.answer()).status == 200

    asyncio.run(story())


def test_a_body_over_the_limit_is_refused_unread(gateway: Gateway) -> None:
    async def story() -> None:
        await put(gateway)
        async with Client.connect(gateway) as client:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {LIMIT + 1}\r\n"
            client.writer.write(head.encode() + b"expect: 100-continue\r\n\r\n")
            answer = await client.answer()
            assert (answer.status, answer.error["code"]) == (413, "request_too_large")
            assert answer.headers["connection"] == "close"
        async with Client.connect(gateway) as client:
            client.writer.write(b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
            for _ in range(LIMIT // 100_000 + 2):
                client.writer.write(b"186a0\r\n" + b"x" * 100_000 + b"\r\n")
            answer = await client.answer()
            assert answer.status == 413
            assert answer.json["error"]["type"] == "request_too_large"
        await soon(lambda: gateway.metric("shoal_held_bytes") == 0)

    asyncio.run(story())


@pytest.mark.parametrize(
    "data",
    [
        b"what\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ncontent-length: 5\r\n\r\nabc",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\nabc",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: -3\r\n\r\nabc",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_not_http_is_a_400_and_a_close(gateway: Gateway, data: bytes) -> None:
    async def story() -> None:
        async with Client.connect(gateway) as client:
            client.writer.write(data)
            answer = await client.answer()
            assert (answer.status, answer.error["code"]) == (400, "invalid_http")
            assert await client.is_closed()

    asyncio.run(story())


def test_endless_headers_are_refused(gateway: Gateway) -> None:
    async def story() -> None:
        async with Client.connect(gateway) as client:
            client.writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nx: ")
            for _ in range(20):
                client.writer.write(b"y" * 10_000)
            assert (await client.answer()).status == 431

    asyncio.run(story())


def test_http_1_0_gets_a_stream_that_ends_with_the_connection(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await put(gateway, a)
            content = json.dumps(chat(stream=True)).encode()
            async with Client.connect(gateway) as client:
                head = f"POST /v1/chat/completions HTTP/1.0\r\ncontent-length: {len(content)}\r\n"
                client.writer.write(head.encode() + b"content-type: application/json\r\n\r\n" + content)
                answer = await client.answer()
                assert "transfer-encoding" not in answer.headers
                assert answer.text == "one two three"

    asyncio.run(story())


def test_a_connection_that_is_not_to_be_kept_is_closed(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await put(gateway, a)
            async with Client.connect(gateway) as client:
                client.send(chat(), headers="connection: close\r\n")
                assert (await client.answer()).headers["connection"] == "close"
                assert await client.is_closed()

    asyncio.run(story())


def test_what_an_engine_gets_and_what_it_does_not(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await put(gateway, a)
            headers = "authorization: Bearer s\r\nx-api-key: s\r\napi-key: s\r\ncookie: s\r\n"
            headers += "x-shoal-mac: forged\r\nx-shoal-limit: 9999\r\n"
            headers += "x-request-id: mine-1\r\nx-forwarded-for: 1.2.3.4\r\nx-vllm-priority: 3\r\n"
            headers += "x-request-timeout-seconds: 1\r\n"
            answer = await ask(gateway, chat(model="m-alias"), "/v1/chat/completions?beta=true", headers)
            (call,) = a.calls
            assert call.path == "/v1/chat/completions?beta=true"
            assert call.asked["model"] == "m"
            assert call.headers["x-request-id"] == "mine-1"
            assert call.headers["x-shoal-limit"] == "64"
            assert call.headers["x-vllm-priority"] == "3"
            assert call.headers["traceparent"].startswith("00-")
            gone = ("authorization", "x-api-key", "api-key", "cookie", "x-forwarded-for", "x-request-timeout-seconds")
            assert not call.headers.keys() & set(gone)
            assert answer.headers["x-request-id"] == "mine-1"
            assert answer.headers["x-shoal-model"] == "default/m; by=alias"
            assert answer.headers["server-timing"].startswith("queue;dur=")

    asyncio.run(story())


def test_a_client_that_does_not_read_pauses_its_engine_and_costs_no_memory(gateway: Gateway) -> None:
    sent = 0

    async def flood(call: Call) -> None:
        nonlocal sent
        call.head()
        for _ in range(400):
            call.token("x" * 100_000)
            await call.flushed()
            sent += 1
        call.done()

    def memory() -> int:
        with open(f"/proc/{gateway.process.pid}/statm") as statm:  # noqa: PTH123
            return int(statm.read().split()[1]) * 4096

    async def story() -> None:
        async with engines("a") as (a,):
            a.always = flood
            await put(gateway, a, timeouts={"idleSeconds": 1.5})
            before = memory()
            async with Client.connect(gateway, limit=1000) as client:
                client.send(chat(stream=True))
                await soon(lambda: a.running == 1)
                last = -1
                while sent != last:
                    last = sent
                    await asyncio.sleep(0.8)
                assert sent < 400
                assert memory() - before < 20_000_000
                # The wait was the client's own: it is not taken for a silent engine.
                answer = await client.answer()
                assert answer.whole
                assert len(answer.text) == 400 * 100_000

    asyncio.run(story())


def test_an_event_cut_at_any_place_arrives_whole(gateway: Gateway) -> None:
    async def crumbs(call: Call) -> None:
        call.head()
        events = b'data: {"choices": [{"delta": {"content": "\xc3\xa9"}}]}\r\n\r\n: note\n\ndata: [DONE]\n\n'
        for at in range(0, len(events), 3):
            call.chunk(events[at : at + 3])
            await call.flushed()
            await asyncio.sleep(0.001)
        call.raw(b"0\r\n\r\n")

    async def story() -> None:
        async with engines("a") as (a,):
            a.always = crumbs
            await put(gateway, a)
            async with Client.connect(gateway) as client:
                client.send(chat(stream=True))
                await client.head()
                while (size := int(await client.reader.readuntil(b"\r\n"), 16)) > 0:
                    piece = await client.reader.readexactly(size)
                    assert piece.endswith((b"\n\n", b"\r\n\r\n"))
                    await client.reader.readexactly(2)

    asyncio.run(story())


def test_a_two_megabyte_body_arrives_unchanged(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await put(gateway, a)
            body = chat(user="ü" * 400_000)
            answer = await ask(gateway, body)
            assert answer.status == 200
            assert a.calls[0].body == json.dumps(body).encode()
            await soon(lambda: gateway.metric("shoal_held_bytes") == 0)

    asyncio.run(story())


def test_no_prompt_and_no_key_is_in_the_log(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a", "b") as (a, b):
            a.always = b.always = fake_engine.status(500, {"error": {"message": "prompt was swordfish", "code": 500}})
            await put(gateway, a, b)
            body = chat(messages=[{"role": "user", "content": "swordfish"}])
            await ask(gateway, body, headers="authorization: Bearer swordfish\r\n")
            await ask(gateway, {**body, "model": "swordfish"})
            a.always = b.always = fake_engine.tokens_then(1, fake_engine.reset)
            await ask(gateway, {**body, "stream": True})
            await soon(lambda: "outcome=upstream_lost" in gateway.log())
            assert "swordfish" not in gateway.log()

    asyncio.run(story())
