"""A replica that was out and is reached again serves all who wait, whatever becomes of the request that tried it."""

import asyncio

import pytest

import fake_engine
from facts import soon
from fake_engine import FakeEngine, engines
from gateway_process import Client, Gateway, ask, chat, nothing_is_left, one_gateway, put

gateway = one_gateway()


async def _out(gateway: Gateway, engine: FakeEngine) -> None:
    """New connections to it fail, until its key is right again; nobody has one."""
    engine.key = bytes(32)
    await put(gateway, engine)


async def _waiting(gateway: Gateway, count: int) -> None:
    await soon(lambda: gateway.metric("shoal_requests_waiting") == count)


def test_who_waits_does_not_wait_for_the_end_of_the_request_that_found_the_replica_well(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            key, finish = a.key, asyncio.Event()

            async def slow(call: fake_engine.Call) -> None:
                await finish.wait()
                call.json({})

            a.always = slow
            await _out(gateway, a)
            held = [asyncio.create_task(ask(gateway, chat())) for _ in range(3)]
            await soon(lambda: a.hellos >= 1)
            await _waiting(gateway, 3)
            a.key = key
            await soon(lambda: a.running == 3)
            finish.set()
            assert [(await answer).status for answer in held] == [200] * 3
        await nothing_is_left(gateway)

    asyncio.run(story())


@pytest.mark.parametrize("succeeds", [True, False])
def test_who_waits_is_served_though_the_client_of_the_trial_left(gateway: Gateway, succeeds: bool) -> None:
    async def story() -> None:
        before = await asyncio.to_thread(gateway.metric, "shoal_requests_total", outcome="cancelled")
        async with engines("a") as (a,):
            key, may_answer = a.key, asyncio.Event()
            await _out(gateway, a)
            async with Client.connect(gateway) as leaving:
                leaving.send(chat())
                await soon(lambda: a.hellos >= 1)
                await _waiting(gateway, 1)
                held = asyncio.create_task(ask(gateway, chat()))
                await _waiting(gateway, 2)
                a.before_hello = may_answer.wait
                tried = a.hellos
                await soon(lambda: a.hellos > tried)
            await soon(lambda: gateway.metric("shoal_requests_total", outcome="cancelled") == before + 1)
            if succeeds:
                a.key = key
            may_answer.set()
            a.before_hello = None
            await soon(lambda: succeeds or gateway.log().count("out for 2 s") > 0)
            a.key = key
            assert (await held).status == 200
        await nothing_is_left(gateway)

    asyncio.run(story())
