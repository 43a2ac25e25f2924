"""Every row of "What happens to a request", by a real gateway process and engines that do the worst on command."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

import fake_engine
from fake_engine import FakeEngine, busy, engines, first_event_error, status, tokens_then
from gateway_process import Answer, Client, Gateway, a_gateway, a_route, ask, chat, soon

PATH = "/v1/chat/completions"
REQUESTS = 30


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with a_gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running
        assert "Traceback" not in running.log()


async def put(gateway: Gateway, *running: FakeEngine, **fields: Any) -> None:
    await asyncio.to_thread(gateway.put, a_route(*running, **fields))


async def nothing_is_left(gateway: Gateway) -> None:
    """Every gauge back at zero."""

    def at_zero() -> bool:
        return (
            gateway.metric("shoal_requests_in_flight") == 0
            and gateway.metric("shoal_requests_waiting") == 0
            and gateway.metric("shoal_held_bytes") == 0
            and gateway.load()["models"] == {}
        )

    await soon(at_zero)


async def refuse(call: fake_engine.Call) -> None:
    raise AssertionError("a port that nobody listens on was reached")


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
            answers = [await ask(gateway, chat()) for _ in range(12)]
            assert [answer.status for answer in answers] == [200] * 12
            assert bad.calls

    asyncio.run(story())


@pytest.mark.parametrize("stream", [False, True])
def test_no_first_byte_in_time_is_a_504_and_not_tried_again(gateway: Gateway, stream: bool) -> None:
    async def story() -> None:
        async with engines("a", "b") as (a, b):
            a.always = b.always = fake_engine.hang
            await put(gateway, a, b, timeouts={"firstByteSeconds": 0.3})
            answer = await ask(gateway, chat(stream))
            assert (answer.status, answer.error["code"]) == (504, "engine_timeout")
            (call,) = a.calls + b.calls
            await asyncio.wait_for(call.gone.wait(), 5)

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


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_is_an_abort_at_the_engine_within_a_second(gateway: Gateway, stream: bool) -> None:
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
            await asyncio.wait_for(a.calls[0].gone.wait(), 1)
            await nothing_is_left(gateway)
            assert await asyncio.to_thread(gateway.metric, "shoal_requests_total", outcome="cancelled") == cancelled + 1

    asyncio.run(story())


def test_a_kept_connection_that_the_engine_closed_is_replaced_without_a_word(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await put(gateway, a)
            assert (await ask(gateway, chat())).status == 200
            # The next request on the kept connection meets a close, as when both sides move at the same moment.
            a.script = [fake_engine.close]
            assert (await ask(gateway, chat())).status == 200
            assert a.connections == 2
            assert len(a.calls) == 3

    asyncio.run(story())


def test_connections_are_kept_and_proved_once(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await put(gateway, a)
            for _ in range(20):
                assert (await ask(gateway, chat(stream=True))).status == 200
            assert (a.connections, a.hellos) == (1, 1)

    asyncio.run(story())


def test_an_idle_connection_is_closed_before_vllm_would(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await put(gateway, a)
            assert (await ask(gateway, chat())).status == 200
            assert await asyncio.to_thread(gateway.metric, "shoal_upstream_idle_connections") == 1
            await soon(lambda: gateway.metric("shoal_upstream_idle_connections") == 0, 5)

    asyncio.run(story())


def test_a_replica_that_cannot_be_reached_is_out_for_a_second_then_for_two_and_is_tried_by_one(
    gateway: Gateway,
) -> None:
    async def story() -> None:
        async with engines("a", "b") as (a, b):
            a.key = bytes(32)
            await put(gateway, a, b)
            while not a.hellos:
                assert (await ask(gateway, chat())).status == 200
            began, seen = time.monotonic(), []
            while (now := time.monotonic() - began) < 3.6:
                assert {answer.status for answer in await _six(gateway)} == {200}
                seen += [now] * (a.hellos - 1 - len(seen))
            assert len(seen) == 2, f"trials after {seen} s"
            assert 0.9 < seen[0] < 2 < 2.9 < seen[1]
            assert await asyncio.to_thread(gateway.metric, "shoal_endpoints", state="out") == 1
            a.key = b.key
            await soon(lambda: bool(a.calls) or asyncio.run(ask(gateway, chat())).status != 200, 10)
            assert await asyncio.to_thread(gateway.metric, "shoal_endpoints", state="out") == 0

    asyncio.run(story())


def test_a_connection_that_a_running_request_hands_back_ends_the_trial_of_its_replica(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            finish = asyncio.Event()

            async def slow(call: fake_engine.Call) -> None:
                call.head()
                call.token("early ")
                await call.flushed()
                await finish.wait()
                call.done()

            a.script = [slow]
            await put(gateway, a)
            running = asyncio.create_task(ask(gateway, chat(stream=True)))
            await soon(lambda: a.running == 1)
            # New connections fail while an old one works, as on a machine that has too much to do.
            a.refuse_new()
            held = asyncio.create_task(ask(gateway, chat()))
            await soon(lambda: gateway.metric("shoal_endpoints", state="out") == 1)
            finish.set()
            assert (await running).events[-1] == "[DONE]"
            assert (await held).status == 200
            assert [(await ask(gateway, chat())).status for _ in range(3)] == [200] * 3

    asyncio.run(story())


async def _six(gateway: Gateway) -> list[Answer]:
    return await asyncio.gather(*(ask(gateway, chat()) for _ in range(6)))


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
