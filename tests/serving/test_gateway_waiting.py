"""Requests that wait: in order, bounded, woken exactly as there is room, and gone without a trace when they leave."""

import asyncio
import contextlib
import random
from typing import Any

import fake_engine
from facts import soon
from fake_engine import Call, busy, engines
from gateway_process import Client, Gateway, a_route, ask, chat, one_gateway, put

gateway = one_gateway("--max-held-bytes=2000000", "--max-body-bytes=1000000")


def waiting(gateway: Gateway) -> float:
    return gateway.metric("shoal_requests_waiting")


def numbered(number: int) -> dict[str, Any]:
    return chat(messages=[{"role": "user", "content": str(number)}])


def number_of(call: Call) -> int:
    return int(call.asked["messages"][0]["content"])


async def hold(gateway: Gateway, count: int, first: int = 0) -> list["asyncio.Task[Any]"]:
    """So many requests, one after the other, all of them waiting."""
    tasks = []
    for number in range(first, first + count):
        before = await asyncio.to_thread(waiting, gateway)
        tasks.append(asyncio.create_task(ask(gateway, numbered(number))))
        await soon(lambda wanted=before + 1: waiting(gateway) == wanted)
    return tasks


def test_requests_wait_while_no_replica_is_ready_and_are_served_in_order_when_one_is(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await put(gateway)
            held = await hold(gateway, 1)
            first = (await asyncio.to_thread(gateway.load))["models"]["default/m"]["arrived"]
            held += await hold(gateway, 5, first=1)
            load = (await asyncio.to_thread(gateway.load))["models"]
            counts = {
                "waiting": 6,
                "inFlight": 0,
                "inFlightByReplica": {},
                "arrived": first + 5,
                "idleSeconds": 0.0,
                "callers": {},
            }
            assert load == {"default/m": counts}
            assert "reason=FirstHeld" in gateway.log()
            await put(gateway, a, queue={"maxInFlightPerReplica": 1})
            assert [answer.status for answer in await asyncio.gather(*held)] == [200] * 6
            assert [number_of(call) for call in a.calls] == list(range(6))
            assert a.most_running == 1

    asyncio.run(story())


def test_what_a_replica_holds_is_bounded_from_the_first_moment(gateway: Gateway) -> None:
    async def story() -> None:
        both_are_full = asyncio.Event()

        async def slow(call: Call) -> None:
            await both_are_full.wait()
            await fake_engine.answer(call)

        async with engines("a", "b") as (a, b):
            a.always = b.always = slow
            await put(gateway)
            tasks = [asyncio.create_task(ask(gateway, numbered(n))) for n in range(40)]
            await soon(lambda: waiting(gateway) == 40)
            await put(gateway, a, b, queue={"maxInFlightPerReplica": 3})
            more = [asyncio.create_task(ask(gateway, numbered(n))) for n in range(40)]
            await soon(lambda: (a.running, b.running) == (3, 3) and waiting(gateway) == 74)
            both_are_full.set()
            answers = await asyncio.gather(*tasks, *more)
            assert {answer.status for answer in answers} == {200}
            assert (a.most_running, b.most_running) == (3, 3)

    asyncio.run(story())


def test_a_changed_limit_counts_for_who_waits_already(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            a.always = fake_engine.hang
            await put(gateway, a, queue={"maxInFlightPerReplica": 1})
            tasks = [asyncio.create_task(ask(gateway, numbered(n))) for n in range(5)]
            await soon(lambda: waiting(gateway) == 4)
            await put(gateway, a, queue={"maxInFlightPerReplica": 4})
            await soon(lambda: waiting(gateway) == 1)
            await soon(lambda: a.running == 4)
            assert {call.headers["x-shoal-limit"] for call in a.calls} == {"1", "4"}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await soon(lambda: gateway.load()["models"] == {})

    asyncio.run(story())


def test_a_busy_refusal_goes_back_to_its_old_place(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            a.script = [busy, busy, busy]
            await put(gateway)
            held = await hold(gateway, 4)
            await put(gateway, a, queue={"maxInFlightPerReplica": 1})
            answers = await asyncio.gather(*held)
            assert [answer.status for answer in answers] == [200] * 4
            assert [number_of(call) for call in a.calls] == [0, 0, 0, 0, 1, 2, 3]

    asyncio.run(story())


def test_who_leaves_while_waiting_is_never_sent(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await put(gateway)
            held = await hold(gateway, 5)
            for number in (0, 3):
                held[number].cancel()
            await soon(lambda: waiting(gateway) == 3)
            await put(gateway, a)
            await asyncio.gather(*held, return_exceptions=True)
            assert sorted(number_of(call) for call in a.calls) == [1, 2, 4]

    asyncio.run(story())


def test_too_many_waiting_are_told_at_once(gateway: Gateway) -> None:
    async def story() -> None:
        await put(gateway, queue={"maxWaiting": 2})
        held = await hold(gateway, 2)
        answer = await ask(gateway, chat())
        assert (answer.status, answer.error["code"]) == (429, "queue_full")
        assert "retry-after" in answer.headers
        assert "retry-after-ms" in answer.headers
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
        await soon(lambda: waiting(gateway) == 0)

    asyncio.run(story())


def test_too_many_bytes_over_all_models_are_told_at_once(gateway: Gateway) -> None:
    async def story() -> None:
        one, two = a_route(name="one", model_uid="uid-1"), a_route(name="two", model_uid="uid-2")
        await asyncio.to_thread(gateway.put, one, two)
        padding: dict[str, Any] = {"user": "x" * 900_000}
        tasks = [asyncio.create_task(ask(gateway, chat(model=name, **padding))) for name in ("one", "two")]
        await soon(lambda: waiting(gateway) == 2)
        answer = await ask(gateway, chat(model="one", **padding))
        assert (answer.status, answer.error["code"]) == (429, "queue_full")
        assert (await ask(gateway, chat(model="nobody"))).status == 404
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await soon(lambda: gateway.metric("shoal_held_bytes") == 0)

    asyncio.run(story())


def test_waiting_in_vain_is_told_with_the_models_condition(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            a.always = fake_engine.hang
            await put(gateway, queue={"maxWaitSeconds": 0.2}, condition="2 replicas load the model.")
            answer = await ask(gateway, chat())
            assert (answer.status, answer.error["code"]) == (503, "model_not_ready")
            assert "2 replicas load the model." in answer.error["message"]
            assert "retry-after" in answer.headers
            await put(gateway, a, queue={"maxWaitSeconds": 0.2, "maxInFlightPerReplica": 1})
            async with Client.connect(gateway) as client:
                client.send(chat())
                await soon(lambda: a.running == 1)
                answer = await ask(gateway, chat())
                assert (answer.status, answer.error["code"]) == (503, "server_is_overloaded")

    asyncio.run(story())


def test_a_model_that_cannot_start_is_told_at_once_also_to_who_waits(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await put(gateway)
            (held,) = await hold(gateway, 1)
            await put(gateway, cannot_start="The folder /m does not exist.")
            for answer in (await held, await ask(gateway, chat())):
                assert (answer.status, answer.error["code"]) == (503, "model_unavailable")
                assert answer.error["message"] == "The folder /m does not exist."
            await put(gateway, a, cannot_start="The folder /m does not exist.")
            assert (await ask(gateway, chat())).status == 200
            await put(gateway, a)
            assert (await ask(gateway, chat())).status == 200

    asyncio.run(story())


def test_a_deleted_model_is_unknown_to_who_waits(gateway: Gateway) -> None:
    async def story() -> None:
        await put(gateway)
        (held,) = await hold(gateway, 1)
        await asyncio.to_thread(gateway.put)
        assert (await held).error["code"] == "model_not_found"
        await soon(lambda: gateway.load()["models"] == {})

    asyncio.run(story())


def test_a_vanished_endpoint_does_not_cut_what_runs_on_it(gateway: Gateway) -> None:
    async def story() -> None:
        go_on = asyncio.Event()

        async def patient(call: Call) -> None:
            call.head()
            call.token("early ")
            await call.flushed()
            await go_on.wait()
            call.token("late")
            call.done()

        async with engines("a", "b") as (a, b):
            a.always = patient
            await put(gateway, a)
            async with Client.connect(gateway) as client:
                client.send(chat(stream=True))
                await soon(lambda: a.running == 1)
                await put(gateway, b)
                assert (await ask(gateway, chat())).status == 200
                assert len(b.calls) == 1
                await soon(lambda: gateway.load()["models"]["default/m"]["inFlightByReplica"] == {"a": 1})
                go_on.set()
                assert (await client.answer()).text == "early late"
            await soon(lambda: gateway.load()["models"] == {})

    asyncio.run(story())


def test_a_held_stream_gets_a_heartbeat_where_the_model_asks_for_it(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a", "b") as (a, b):
            a.always = b.always = fake_engine.status(500)
            await put(gateway, queue={"heartbeatAfterSeconds": 0.2})
            async with Client.connect(gateway) as client, Client.connect(gateway) as other:
                client.send(chat(stream=True))
                other.send(chat(stream=False))
                head = await client.head()
                assert (head.status, head.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
                assert await client.reader.readexactly(15) == b"b\r\n: waiting\n\n\r"
                a.script = [fake_engine.first_event_error(503)]
                b.script = [fake_engine.answer]
                await put(gateway, a, b, queue={"heartbeatAfterSeconds": 0.2})
                rest = await client.reader.readuntil(b"0\r\n\r\n")
                assert b"three" in rest or b'"error"' in rest
                assert (await other.answer()).status in (200, 500)
            async with Client.connect(gateway) as client:
                await put(gateway, queue={"heartbeatAfterSeconds": 0.1, "maxWaitSeconds": 0.4})
                client.send(chat(stream=True))
                answer = await client.answer()
                assert answer.status == 200
                assert answer.body.startswith(b": waiting\n\n")
                assert '"model_not_ready"' in answer.events[-1]
                assert await client.is_closed()

    asyncio.run(story())


def test_an_engine_that_answers_a_stream_with_heartbeats_in_one_piece_is_free_again(gateway: Gateway) -> None:
    async def whole(call: Call) -> None:
        call.json({"object": "chat.completion"})

    async def story() -> None:
        async with engines("a") as (a,):
            a.script = [whole]
            await put(gateway, queue={"heartbeatAfterSeconds": 0.1})
            async with Client.connect(gateway) as client:
                client.send(chat(stream=True))
                assert (await client.head()).status == 200
                await put(gateway, a, queue={"heartbeatAfterSeconds": 0.1, "maxInFlightPerReplica": 1})
                assert b'"engine_error"' in await client.reader.read()
            await soon(lambda: gateway.load()["models"] == {})
            assert (await ask(gateway, chat())).status == 200

    asyncio.run(story())


def test_a_storm_of_arrivals_and_departures_never_overfills_a_replica_and_loses_nobody(gateway: Gateway) -> None:
    async def story() -> None:
        chance = random.Random(11)
        left: set[int] = set()

        def behave(at: set[int]) -> fake_engine.Behaviour:
            async def one(call: Call) -> None:
                at.add(number_of(call))
                # Who left may be seen late; of those who did not there is never one too many.
                most.append(len(at - left))
                try:
                    await asyncio.sleep(chance.random() / 100)
                    await (busy if chance.random() < 0.1 else fake_engine.answer)(call)
                finally:
                    at.discard(number_of(call))

            return one

        async def one(number: int) -> int:
            body = numbered(number) | {"stream": chance.random() < 0.5}
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.02 if number % 3 == 0 else None):
                    return (await ask(gateway, body)).status
            left.add(number)
            return 0

        most: list[int] = []
        async with engines("a", "b", "c") as three:
            for engine in three:
                engine.always = behave(set())
            await put(gateway, *three, queue={"maxInFlightPerReplica": 2})
            statuses = await asyncio.gather(*map(one, range(200)))
            assert {status for number, status in enumerate(statuses) if number % 3} == {200}
            assert set(statuses) <= {0, 200}
            assert max(most) == 2
            await soon(lambda: gateway.load()["models"] == {})

    asyncio.run(story())
