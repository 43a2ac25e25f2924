"""Connections to replicas: kept, proved once, replaced, closed in time; who cannot be reached is out for a while."""

import asyncio
import time

import fake_engine
from facts import DEADLINE_SECONDS, soon
from fake_engine import engines
from gateway_process import Answer, Gateway, a_route, ask, chat, one_gateway, put
from shoal_api.routes import Endpoint
from shoal_serving.gateway import upstream
from shoal_serving.simulator.knobs import Knobs

gateway = one_gateway()


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
            # This engine closes nothing by itself, so the gateway does, after less than vLLM's time.
            await soon(lambda: gateway.metric("shoal_upstream_idle_connections") == 0)
            assert Knobs().keep_alive_seconds > upstream.IDLE_SECONDS

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
            deadline = time.monotonic() + DEADLINE_SECONDS
            while a.hellos < 3:
                assert {answer.status for answer in await _six(gateway)} == {200}
                assert time.monotonic() < deadline
            first, second, third = a.hellos_at
            # Not more than one of six at once tries it, or two of these were together.
            assert second - first >= 1.0
            assert third - second >= 2.0
            assert await asyncio.to_thread(gateway.metric, "shoal_endpoints", state="out") == 1
            a.key = b.key
            await soon(lambda: bool(a.calls) or asyncio.run(ask(gateway, chat())).status != 200)
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


def test_a_replica_whose_host_is_no_name_at_all_is_out_like_any_other(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            nowhere = Endpoint(replica="n", uid="uid-n", host="a..b", port=80)
            await asyncio.to_thread(gateway.put, a_route(a).model_copy(update={"endpoints": [nowhere, a.endpoint()]}))
            for _ in range(8):
                assert (await ask(gateway, chat())).status == 200
            await soon(lambda: gateway.metric("shoal_endpoints", state="out") == 1)

    asyncio.run(story())


async def _six(gateway: Gateway) -> list[Answer]:
    return await asyncio.gather(*(ask(gateway, chat()) for _ in range(6)))
