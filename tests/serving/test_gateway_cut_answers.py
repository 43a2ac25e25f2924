"""What a client gets when an answer breaks off behind its commit, by a real gateway process and engines that cut."""

import asyncio

import pytest

import fake_engine
from facts import soon
from fake_engine import engines, tokens_then
from gateway_process import Client, Gateway, ask, chat, nothing_is_left, one_gateway, put

gateway = one_gateway()


@pytest.mark.parametrize(
    "end",
    [fake_engine.close, fake_engine.reset, fake_engine.half_an_event, fake_engine.error_event_and_done],
)
def test_a_committed_stream_that_is_cut_ends_in_one_error_event(gateway: Gateway, end: fake_engine.Behaviour) -> None:
    async def story() -> None:
        async with engines("a", "b") as (a, b):
            a.always = b.always = tokens_then(3, end)
            await put(gateway, a, b)
            answer = await ask(gateway, chat(stream=True))
            assert answer.status == 200
            assert answer.text == "t0 t1 t2 "
            assert "[DONE]" not in answer.events
            assert '"upstream_lost"' in answer.events[-1]
            assert len(answer.events) == 4
            assert len(a.calls) + len(b.calls) == 1
            await nothing_is_left(gateway)

    asyncio.run(story())


def test_a_stream_that_ends_cleanly_without_done_is_a_cut(gateway: Gateway) -> None:
    async def silent_end(call: fake_engine.Call) -> None:
        call.raw(b"0\r\n\r\n")

    async def story() -> None:
        async with engines("a") as (a,):
            a.always = tokens_then(2, silent_end)
            await put(gateway, a)
            answer = await ask(gateway, chat(stream=True))
            assert '"upstream_lost"' in answer.events[-1]

    asyncio.run(story())


@pytest.mark.parametrize(
    ("path", "event", "end"),
    [
        (
            "/v1/chat/completions",
            b'data: {"choices": [{"delta": {"content": "it ends with data: [DONE]"}}]}',
            b"data: [DONE]",
        ),
        (
            "/v1/responses",
            b'event: response.output_text.delta\ndata: {"delta": "event: response.completed"}',
            b'event: response.completed\ndata: {"response": {"text": "event: response.completed"}}',
        ),
    ],
)
def test_what_a_model_says_of_the_end_of_streams_ends_none(
    gateway: Gateway, path: str, event: bytes, end: bytes
) -> None:
    async def says_and_is_cut(call: fake_engine.Call) -> None:
        call.head()
        for data in (event, event):
            call.chunk(data + b"\n\n")
            await call.flushed()
            await asyncio.sleep(0.03)
        call.writer.close()

    async def says_and_ends(call: fake_engine.Call) -> None:
        call.head()
        call.chunk(event + b"\n\n" + end + b"\n\n")
        call.raw(b"0\r\n\r\n")

    async def story() -> None:
        async with engines("a") as (a,):
            a.script = [says_and_is_cut, says_and_ends]
            await put(gateway, a)
            answer = await ask(gateway, chat(stream=True), path)
            assert '"upstream_lost"' in answer.events[-1]
            answer = await ask(gateway, chat(stream=True), path)
            assert answer.body == event + b"\n\n" + end + b"\n\n"

    asyncio.run(story())


@pytest.mark.parametrize("first", [b": nothing\n\n", b'data: {"choices": [{"index": 0, "text": "y"}]}\n\n'])
@pytest.mark.parametrize("further", [b'data: {"error": {"message": "x", "code": 500}}\n\n', b"data: more\n\n"])
def test_a_rest_that_is_none_is_given_up_once(gateway: Gateway, first: bytes, further: bytes) -> None:
    async def cut(call: fake_engine.Call) -> None:
        call.head()
        for number in (1, 2):
            call.chunk(
                b'data: {"id": "c", "created": 1, "model": "m", "prompt_token_ids":[5], "choices": '
                b'[{"index": 0, "delta": {"content": "x"}, "token_ids":[%d]}]}\n\n' % number
            )
            await call.flushed()
            await asyncio.sleep(0.03)
        call.writer.close()

    async def senseless(call: fake_engine.Call) -> None:
        call.head()
        call.chunk(first)
        await call.flushed()
        await asyncio.sleep(0.03)
        call.chunk(b"data: no completion, an error of sorts\n\n" + further)
        await call.gone.wait()

    async def story() -> None:
        async with engines("a", "b") as (a, b):
            a.script = b.script = [cut]
            a.always = b.always = senseless
            await put(gateway, a, b, routing={"continuation": "Exact"})
            answer = await ask(gateway, chat(stream=True))
            assert '"upstream_lost"' in answer.events[-1]
            assert len(a.calls) + len(b.calls) == 2
            # Released twice, an endpoint would have room for more than it may.
            await soon(lambda: gateway.metric("shoal_requests_in_flight") == 0)
        await nothing_is_left(gateway)

    asyncio.run(story())


@pytest.mark.parametrize("end", [fake_engine.close, fake_engine.reset])
def test_behind_its_last_event_a_stream_cannot_be_cut(gateway: Gateway, end: fake_engine.Behaviour) -> None:
    async def last_event(call: fake_engine.Call) -> None:
        call.event(b"[DONE]")
        await call.flushed()
        await asyncio.sleep(0.03)
        await end(call)

    async def story() -> None:
        async with engines("a") as (a,):
            a.always = tokens_then(2, last_event)
            await put(gateway, a)
            answer = await ask(gateway, chat(stream=True))
            assert (answer.text, answer.events[-1], answer.whole) == ("t0 t1 ", "[DONE]", True)
            await nothing_is_left(gateway)

    asyncio.run(story())


def test_a_replica_that_falls_silent_behind_the_last_event_has_said_all(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            a.always = tokens_then(2, _last_event_and_silence)
            await put(gateway, a, timeouts={"idleSeconds": 0.5})
            answer = await ask(gateway, chat(stream=True))
            assert (answer.text, answer.events[-1], answer.whole) == ("t0 t1 ", "[DONE]", True)
            await nothing_is_left(gateway)

    asyncio.run(story())


def test_a_client_that_leaves_behind_the_last_event_has_got_all(gateway: Gateway) -> None:
    def ended(outcome: str) -> float:
        return gateway.metric("shoal_requests_total", outcome=outcome)

    async def story() -> None:
        async with engines("a") as (a,):
            a.always = tokens_then(2, _last_event_and_silence)
            await put(gateway, a)
            ok, cancelled = await asyncio.to_thread(ended, "ok"), await asyncio.to_thread(ended, "cancelled")
            async with Client.connect(gateway) as client:
                client.send(chat(stream=True))
                await client.reader.readuntil(b"data: [DONE]\n\n")
            await soon(lambda: a.running == 0)
            await nothing_is_left(gateway)
            assert await asyncio.to_thread(ended, "ok") == ok + 1
            assert await asyncio.to_thread(ended, "cancelled") == cancelled

    asyncio.run(story())


async def _last_event_and_silence(call: fake_engine.Call) -> None:
    call.event(b"[DONE]")
    await call.gone.wait()


@pytest.mark.parametrize(
    ("path", "last"),
    [("/v1/responses", b"response.completed"), ("/v1/messages", b"message_stop")],
)
def test_typed_streams_end_with_their_own_last_event(gateway: Gateway, path: str, last: bytes) -> None:
    ends = True

    async def typed(call: fake_engine.Call) -> None:
        call.head()
        call.chunk(b'event: start\ndata: {"type": "start"}\n\n')
        if ends:
            call.chunk(b'event: %b\ndata: {"type": "%b"}\n\n' % (last, last))
        call.raw(b"0\r\n\r\n")

    async def story() -> None:
        nonlocal ends
        async with engines("a") as (a,):
            a.always = typed
            await put(gateway, a)
            assert (await ask(gateway, chat(stream=True), path)).body.endswith(b'data: {"type": "%b"}\n\n' % last)
            ends = False
            answer = await ask(gateway, chat(stream=True), path)
            assert b"event: error\n" in answer.body
            assert answer.body.count(b"\n\n") == 2

    asyncio.run(story())


def test_an_answer_over_8_mib_that_is_cut_closes_the_connection_uncleanly(gateway: Gateway) -> None:
    async def large(call: fake_engine.Call) -> None:
        call.raw(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 12000000\r\n\r\n" + b"x" * 10_000_000
        )
        await call.flushed()
        call.writer.close()

    async def story() -> None:
        async with engines("a", "b") as (a, b):
            a.always = b.always = large
            await put(gateway, a, b)
            answer = await ask(gateway, chat())
            assert answer.status == 200
            assert not answer.whole
            await nothing_is_left(gateway)
            assert len(a.calls) + len(b.calls) == 1

    asyncio.run(story())


def test_an_answer_over_8_mib_arrives_whole(gateway: Gateway) -> None:
    async def large(call: fake_engine.Call) -> None:
        call.head("application/json")
        for _ in range(12):
            call.chunk(b"y" * 1_000_000)
            await call.flushed()
        call.raw(b"0\r\n\r\n")

    async def story() -> None:
        async with engines("a") as (a,):
            a.always = large
            await put(gateway, a)
            answer = await ask(gateway, chat())
            assert answer.whole
            assert answer.body == b"y" * 12_000_000
            await nothing_is_left(gateway)

    asyncio.run(story())


def test_a_cut_body_of_an_ordinary_answer_is_tried_elsewhere(gateway: Gateway) -> None:
    async def half(call: fake_engine.Call) -> None:
        call.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        await call.flushed()
        call.writer.close()

    async def story() -> None:
        async with engines("bad", "good") as (bad, good):
            bad.always = half
            await put(gateway, bad, good)
            # Twelve in turn could all be drawn to the good one; of two at once each gets one.
            answers = [a for _ in range(6) for a in await asyncio.gather(ask(gateway, chat()), ask(gateway, chat()))]
            assert [answer.status for answer in answers] == [200] * 12
            assert bad.calls

    asyncio.run(story())


def test_a_replica_that_falls_silent(gateway: Gateway) -> None:
    async def half(call: fake_engine.Call) -> None:
        call.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        await call.flushed()
        await call.gone.wait()

    async def story() -> None:
        async with engines("a", "b") as (a, b):
            a.script, a.always = [], half
            await put(gateway, a, b, timeouts={"idleSeconds": 0.3})
            answers = await asyncio.gather(*(ask(gateway, chat()) for _ in range(4)))
            assert [answer.status for answer in answers] == [200] * 4
            assert a.calls
            a.always = b.always = tokens_then(2, fake_engine.hang)
            answer = await ask(gateway, chat(stream=True))
            assert answer.text == "t0 t1 "
            assert '"upstream_lost"' in answer.events[-1]

    asyncio.run(story())
