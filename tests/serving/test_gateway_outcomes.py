"""Every row of "What happens to a request" before its commit, by a real gateway process and engines at their worst."""

import asyncio

import pytest

import fake_engine
from facts import soon
from fake_engine import busy, engines, first_event_error, status, tokens_then
from gateway_process import Client, Gateway, ask, chat, nothing_is_left, one_gateway, put

REQUESTS = 30


gateway = one_gateway()


BAD_BEFORE_THE_COMMIT = {
    "closes": fake_engine.close,
    "resets": fake_engine.reset,
    "500": status(500),
    "502": status(502),
    "503": status(503),
    "504": status(504),
    "429": status(429),
    "busy": busy,
}
BAD_STREAMS = {
    "overload error first": first_event_error(503),
    "other error first": first_event_error(500),
    "cut before the first event": tokens_then(0, fake_engine.close),
    "half an event first": tokens_then(0, fake_engine.half_an_event),
}


@pytest.mark.parametrize(
    ("stream", "fault"),
    [(stream, fault) for stream in (False, True) for fault in (*BAD_BEFORE_THE_COMMIT, "refuses", "wrong pod")]
    + [(True, fault) for fault in BAD_STREAMS],
)
def test_with_one_bad_and_one_good_replica_every_request_succeeds(gateway: Gateway, stream: bool, fault: str) -> None:
    async def story() -> None:
        async with engines("bad", "good") as (bad, good):
            if fault == "refuses":
                await bad.stop()
            elif fault == "wrong pod":
                bad.key = bytes(32)
            else:
                bad.always = {**BAD_BEFORE_THE_COMMIT, **BAD_STREAMS}[fault]
            await put(gateway, bad, good)
            for _ in range(REQUESTS // 6):
                answers = await asyncio.gather(*(ask(gateway, chat(stream)) for _ in range(6)))
                assert [answer.status for answer in answers] == [200] * 6
                assert all(answer.whole for answer in answers)
                if stream:
                    assert {answer.text for answer in answers} == {"one two three"}
                    assert {answer.events[-1] for answer in answers} == {"[DONE]"}
            assert len(good.calls) == REQUESTS
            if fault in ("refuses", "wrong pod"):
                assert not bad.calls
            else:
                assert bad.calls
            await nothing_is_left(gateway)

    asyncio.run(story())


@pytest.mark.parametrize("stream", [False, True])
def test_one_poisonous_request_kills_two_engines_and_never_three(gateway: Gateway, stream: bool) -> None:
    async def story() -> None:
        async with engines("a", "b", "c", "d") as four:
            for engine in four:
                engine.always = fake_engine.reset
            await put(gateway, *four)
            answer = await ask(gateway, chat(stream))
            assert sum(len(engine.calls) for engine in four) == 2
            assert (answer.status, answer.error["code"]) == (503, "server_is_overloaded")
            assert answer.headers["x-should-retry"] == "false"

    asyncio.run(story())


def test_an_engines_500_is_passed_on_in_openais_shape_after_a_second_engine_said_it(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a", "b", "c") as three:
            for engine in three:
                engine.always = status(500, {"error": {"message": "boom", "type": "InternalServerError", "code": 500}})
            await put(gateway, *three)
            answer = await ask(gateway, chat())
            assert (answer.status, answer.error["code"], answer.error["type"]) == (500, "engine_error", "server_error")
            assert answer.error["message"] == "boom"
            assert sum(len(engine.calls) for engine in three) == 2

    asyncio.run(story())


def test_three_overloaded_engines_are_asked_and_not_a_fourth(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a", "b", "c", "d") as four:
            for engine in four:
                engine.always = status(503)
            await put(gateway, *four)
            answer = await ask(gateway, chat())
            assert sorted(len(engine.calls) for engine in four) == [0, 1, 1, 1]
            assert (answer.status, answer.error["code"]) == (503, "server_is_overloaded")
            assert 0 < int(answer.headers["retry-after-ms"]) <= 1000 * int(answer.headers["retry-after"])

    asyncio.run(story())


def test_a_stream_that_begins_with_an_overload_error_everywhere_becomes_a_503(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a", "b") as both:
            for engine in both:
                engine.always = first_event_error(503)
            await put(gateway, *both)
            answer = await ask(gateway, chat(stream=True))
            assert (answer.status, answer.error["code"]) == (503, "server_is_overloaded")
            for engine in both:
                engine.always = first_event_error(500)
            answer = await ask(gateway, chat(stream=True))
            assert (answer.status, answer.error["message"]) == (500, "no room")

    asyncio.run(story())


@pytest.mark.parametrize("code", [400, 401, 403, 404, 413, 415, 422])
def test_a_request_that_is_its_own_fault_is_tried_once(gateway: Gateway, code: int) -> None:
    async def story() -> None:
        async with engines("a", "b") as (a, b):
            for engine in (a, b):
                engine.always = status(code)
            await put(gateway, a, b)
            answer = await ask(gateway, chat())
            assert answer.status == code
            assert set(answer.error) == {"message", "type", "param", "code"}
            assert answer.error["code"] is None or isinstance(answer.error["code"], str)
            assert len(a.calls) + len(b.calls) == 1

    asyncio.run(story())


@pytest.mark.parametrize("stream", [False, True])
def test_no_first_byte_in_time_is_a_504_and_not_tried_again(gateway: Gateway, stream: bool) -> None:
    async def story() -> None:
        async with engines("a", "b") as (a, b):
            a.always = b.always = fake_engine.hang
            await put(gateway, a, b, timeouts={"firstByteSeconds": 0.3})
            answer = await ask(gateway, chat(stream))
            assert (answer.status, answer.error["code"]) == (504, "engine_timeout")
            await soon(lambda: a.calls + b.calls)
            (call,) = a.calls + b.calls
            await soon(call.gone.is_set)

    asyncio.run(story())


def test_a_stream_of_comments_only_has_no_first_event(gateway: Gateway) -> None:
    async def comments(call: fake_engine.Call) -> None:
        call.head()
        while not call.gone.is_set():
            call.chunk(b": keep-alive\n\n")
            await call.flushed()
            await asyncio.sleep(0.02)

    async def story() -> None:
        async with engines("a") as (a,):
            a.always = comments
            await put(gateway, a, timeouts={"firstByteSeconds": 0.3})
            assert (await ask(gateway, chat(stream=True))).status == 504

    asyncio.run(story())


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_is_an_abort_at_the_engine_long_before_any_timeout(gateway: Gateway, stream: bool) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            a.always = tokens_then(2, fake_engine.hang) if stream else fake_engine.hang
            await put(gateway, a)
            cancelled = await asyncio.to_thread(gateway.metric, "shoal_requests_total", outcome="cancelled")
            async with Client.connect(gateway) as client:
                client.send(chat(stream))
                await soon(lambda: a.running == 1)
                if stream:
                    await client.head()
            await soon(a.calls[0].gone.is_set)
            await nothing_is_left(gateway)
            await soon(lambda: gateway.metric("shoal_requests_total", outcome="cancelled") == cancelled + 1)

    asyncio.run(story())


def test_bytes_that_are_not_http_are_a_death_not_an_answer(gateway: Gateway) -> None:
    async def garbage(call: fake_engine.Call) -> None:
        call.raw(b"\x00\x01 what is this\r\n\r\n")
        await call.flushed()

    async def endless_head(call: fake_engine.Call) -> None:
        call.raw(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000)
        await call.gone.wait()

    async def story() -> None:
        async with engines("a", "b") as (a, b):
            await put(gateway, a, b)
            for bad in (garbage, endless_head):
                a.always = bad
                answers = [await ask(gateway, chat()) for _ in range(6)]
                assert [answer.status for answer in answers] == [200] * 6

    asyncio.run(story())
