"""Callers that wait for one model: each has its turn, a class of priority its weight, and none can fill the room."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fake_engine
from facts import soon, until
from fake_engine import Call, FakeEngine, busy, engines
from gateway_process import Answer, Client, Gateway, a_gateway, ask, chat, put

ONE_AT_A_TIME = {"maxInFlightPerReplica": 1}


def key_of(caller: str) -> str:
    return f"sk-{caller}-0123456789"


def write_keys(file: Path, **priorities: str) -> None:
    """An entry for each caller; without a priority where it is empty, as in files from before there were any."""
    entries = [
        {"name": name, "sha256": hashlib.sha256(key_of(name).encode()).hexdigest(), "models": ["*"]}
        | ({"priority": priority} if priority else {})
        for name, priority in priorities.items()
    ]
    temporary = file.with_suffix(".new")
    temporary.write_text(json.dumps(entries))
    temporary.replace(file)


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    file = tmp_path / "keys.json"
    write_keys(file, loud="", quiet="", urgent="high", batch="low")
    return file


@pytest.fixture
def gateway(keys_file: Path) -> Iterator[Gateway]:
    with a_gateway(keys_file.parent, f"--keys-file={keys_file}") as running:
        yield running
        assert "Traceback" not in running.log()
        until(lambda: running.load()["models"] == {} and running.metric("shoal_held_bytes") == 0)


def request_of(caller: str, number: int, **fields: Any) -> dict[str, Any]:
    return chat(messages=[{"role": "user", "content": f"{caller} {number}"}], **fields)


def words(call: Call) -> tuple[str, int]:
    caller, number = call.asked["messages"][0]["content"].split()
    return caller, int(number)


def callers(engine: FakeEngine) -> list[str]:
    return [words(call)[0] for call in engine.calls]


def waiting(gateway: Gateway) -> float:
    return gateway.metric("shoal_requests_waiting")


async def hold(gateway: Gateway, caller: str, count: int, **more: Any) -> list["asyncio.Task[Answer]"]:
    """So many requests of a caller, one after the other, all of them waiting."""
    tasks = []
    for number in range(count):
        before = await asyncio.to_thread(waiting, gateway)
        headers = f"authorization: Bearer {key_of(caller)}\r\n"
        tasks.append(asyncio.create_task(ask(gateway, request_of(caller, number), headers=headers, **more)))
        await soon(lambda wanted=before + 1: waiting(gateway) == wanted)
    return tasks


def test_two_hundred_of_one_key_do_not_make_five_of_another_wait(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await put(gateway)
            headers = f"authorization: Bearer {key_of('loud')}\r\n"
            held = [asyncio.create_task(ask(gateway, request_of("loud", n), headers=headers)) for n in range(200)]
            await soon(lambda: waiting(gateway) == 200)
            held += await hold(gateway, "quiet", 5)
            await put(gateway, a, queue=ONE_AT_A_TIME)
            assert {answer.status for answer in await asyncio.gather(*held)} == {200}
            assert callers(a)[:11] == ["loud", "quiet"] * 5 + ["loud"]
            assert [number for caller, number in map(words, a.calls) if caller == "quiet"] == list(range(5))
            assert len(a.calls) == 205

    asyncio.run(story())


def test_a_key_has_its_turns_by_its_priority_and_none_starves(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await put(gateway)
            held = []
            for caller, count in (("batch", 3), ("loud", 4), ("urgent", 10)):
                held += await hold(gateway, caller, count)
            await put(gateway, a, queue=ONE_AT_A_TIME)
            assert {answer.status for answer in await asyncio.gather(*held)} == {200}
            order = "".join({"urgent": "h", "loud": "n", "batch": "l"}[caller] for caller in callers(a))
            assert order[:13] == "hhnhhhhnhhlhh"
            assert sorted(order[13:]) == list("llnn")
            for name in ("batch", "loud", "urgent"):
                numbers = [number for caller, number in map(words, a.calls) if caller == name]
                assert numbers == sorted(numbers)

    asyncio.run(story())


def test_a_changed_priority_counts_from_the_next_request_on(gateway: Gateway, keys_file: Path) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await put(gateway)
            held = await hold(gateway, "loud", 3) + await hold(gateway, "quiet", 3)
            write_keys(keys_file, loud="", quiet="high")
            await soon(lambda: gateway.log().count("reason=Keys ") == 2)
            held += await hold(gateway, "quiet", 1)
            await put(gateway, a, queue=ONE_AT_A_TIME)
            assert {answer.status for answer in await asyncio.gather(*held)} == {200}
            assert callers(a) == ["quiet", "quiet", "loud", "quiet", "quiet", "loud", "loud"]

    asyncio.run(story())


def test_one_that_a_busy_replica_sends_back_is_next_again_whoever_waits(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            a.script = [busy, busy, fake_engine.answer, busy]
            await put(gateway)
            held = await hold(gateway, "loud", 2) + await hold(gateway, "quiet", 2)
            await put(gateway, a, queue=ONE_AT_A_TIME)
            assert {answer.status for answer in await asyncio.gather(*held)} == {200}
            loud, quiet = "loud", "quiet"
            order = [(loud, 0), (loud, 0), (loud, 0), (quiet, 0), (quiet, 0), (loud, 1), (quiet, 1)]
            assert [words(call) for call in a.calls] == order

    asyncio.run(story())


def test_who_fills_the_room_gives_way_to_another_caller(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await put(gateway, queue={"maxWaiting": 4})
            loud = await hold(gateway, "loud", 4)
            headers = "authorization: Bearer {}\r\n"
            refused = await ask(gateway, request_of("loud", 9), headers=headers.format(key_of("loud")))
            assert (refused.status, refused.error["code"]) == (429, "queue_full")
            own = headers.format(key_of("quiet"))
            quiet = asyncio.create_task(ask(gateway, request_of("quiet", 0), headers=own))
            displaced = await loud[3]
            assert (displaced.status, displaced.error["code"]) == (429, "queue_full")
            assert "retry-after-ms" in displaced.headers
            assert await asyncio.to_thread(waiting, gateway) == 4
            await put(gateway, a, queue={"maxWaiting": 4, **ONE_AT_A_TIME})
            assert [answer.status for answer in await asyncio.gather(*loud[:3], quiet)] == [200] * 4
            assert callers(a) == ["loud", "quiet", "loud", "loud"]
            assert await asyncio.to_thread(gateway.metric, "shoal_requests_total", outcome="queue_full") == 2

    asyncio.run(story())


def test_who_leaves_while_waiting_leaves_the_turns_of_all_others_as_they_were(gateway: Gateway) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await put(gateway)
            loud, quiet = await hold(gateway, "loud", 4), await hold(gateway, "quiet", 3)
            for gone in (loud[0], quiet[1]):
                gone.cancel()
            await soon(lambda: waiting(gateway) == 5)
            await put(gateway, a, queue=ONE_AT_A_TIME)
            await asyncio.gather(*loud, *quiet, return_exceptions=True)
            order = [("loud", 1), ("quiet", 0), ("loud", 2), ("quiet", 2), ("loud", 3)]
            assert [words(call) for call in a.calls] == order
            await soon(lambda: gateway.metric("shoal_requests_total", outcome="cancelled") == 2)

    asyncio.run(story())


@pytest.mark.parametrize("how", ["user", "safety_identifier", "metadata", "address"])
def test_without_keys_the_user_that_a_request_names_or_else_its_address_has_turns(tmp_path: Path, how: str) -> None:
    async def story(gateway: Gateway) -> None:
        async with engines("a") as (a,):
            await put(gateway)
            held = []
            for number, caller in enumerate(["loud"] * 6 + ["quiet"] * 2):
                source = {"loud": "127.0.0.2", "quiet": "127.0.0.3"}[caller] if how == "address" else ""
                field = {"metadata": {"user_id": caller}} if how == "metadata" else {how: caller}
                body = request_of(caller, number, **field) if how != "address" else request_of(caller, number)
                held.append(asyncio.create_task(ask(gateway, body, source=source)))
                await soon(lambda wanted=number + 1: waiting(gateway) == wanted)
            await put(gateway, a, queue=ONE_AT_A_TIME)
            assert {answer.status for answer in await asyncio.gather(*held)} == {200}
            assert callers(a)[:4] == ["loud", "quiet", "loud", "quiet"]

    with a_gateway(tmp_path) as gateway:
        asyncio.run(story(gateway))


def test_each_of_three_gateways_gives_each_key_its_turns(tmp_path: Path, keys_file: Path) -> None:
    async def story(gateways: list[Gateway]) -> None:
        async with engines("a", "b", "c") as serving:
            for gateway in gateways:
                await put(gateway)
            held = []
            for caller, most in (("loud", 60), ("quiet", 6)):
                headers = f"authorization: Bearer {key_of(caller)}\r\n"
                for number in range(most):
                    gateway = gateways[number % 3]
                    held.append(asyncio.create_task(ask(gateway, request_of(caller, number), headers=headers)))
                count = len(held)
                await soon(lambda wanted=count: sum(map(waiting, gateways)) == wanted)
            for gateway, engine in zip(gateways, serving, strict=True):
                await put(gateway, engine, queue=ONE_AT_A_TIME)
            assert {answer.status for answer in await asyncio.gather(*held)} == {200}
            for engine in serving:
                assert callers(engine)[:4] == ["loud", "quiet"] * 2

    with contextlib.ExitStack() as stack:
        gateways = []
        for name in ("one", "two", "three"):
            (tmp_path / name).mkdir()
            gateways.append(stack.enter_context(a_gateway(tmp_path / name, f"--keys-file={keys_file}")))
        asyncio.run(story(gateways))


PATIENT = "x-stainless-read-timeout: {}\r\n"


@pytest.mark.parametrize("header", ["x-stainless-read-timeout", "X-Stainless-Timeout"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_request_whose_client_gives_up_is_ended_before_and_never_started(
    tmp_path: Path, header: str, stream: bool
) -> None:
    async def story(gateway: Gateway) -> None:
        loop = asyncio.get_running_loop()
        async with engines("a") as (a,):
            await put(gateway, condition="1 replica loads the model.")
            began = loop.time()
            answer = await ask(gateway, chat(stream), headers=f"{header}: 1\r\n")
            assert loop.time() - began > 0.85
            assert (answer.status, answer.error["code"]) == (504, "client_timeout")
            assert answer.error["type"] == "timeout_error"
            assert "1 replica loads the model." in answer.error["message"]
            assert "retry-after-ms" in answer.headers
            assert await asyncio.to_thread(gateway.metric, "shoal_requests_total", outcome="timeout") == 1
            await put(gateway, a)
            assert (await ask(gateway, chat(stream), headers=f"{header}: 100\r\n")).status == 200
            assert len(a.calls) == 1
            assert a.calls[0].headers[header.lower()] == "100"

    with a_gateway(tmp_path) as gateway:
        asyncio.run(story(gateway))
        until(lambda: gateway.load()["models"] == {} and gateway.metric("shoal_held_bytes") == 0)


def test_a_patience_that_says_nothing_and_one_that_heartbeats_renew_end_nothing(tmp_path: Path) -> None:
    async def story(gateway: Gateway) -> None:
        async with engines("a") as (a,):
            await put(gateway, queue={"heartbeatAfterSeconds": 0.2, "maxWaitSeconds": 20})
            async with (
                Client.connect(gateway) as beating,
                Client.connect(gateway) as other,
                Client.connect(gateway) as x,
            ):
                beating.send(chat(stream=True), headers=PATIENT.format("0.6"))
                other.send(chat(), headers=PATIENT.format("None"))
                x.send(chat(), headers=PATIENT.format("0.6"))
                assert (await x.answer()).error["code"] == "client_timeout"
                assert await asyncio.to_thread(waiting, gateway) == 2
                await put(gateway, a)
                assert (await other.answer()).status == 200
                answer = await beating.answer()
                assert answer.body.startswith(b": waiting\n\n")
                assert answer.text == "one two three"

    with a_gateway(tmp_path) as gateway:
        asyncio.run(story(gateway))


def test_what_was_begun_is_not_ended_by_the_clients_patience(tmp_path: Path) -> None:
    async def story(gateway: Gateway) -> None:
        other_is_told = asyncio.Event()

        async def slow(call: Call) -> None:
            await other_is_told.wait()
            await fake_engine.answer(call)

        async with engines("a") as (a,):
            await put(gateway, a, queue=ONE_AT_A_TIME)
            assert (await ask(gateway, chat())).status == 200
            a.always = slow
            async with Client.connect(gateway) as begun, Client.connect(gateway) as waits:
                begun.send(chat(), headers=PATIENT.format("1.2"))
                await soon(lambda: a.running == 1)
                waits.send(chat(), headers=PATIENT.format("1.2"))
                # As patient as the first, and later: when it is told, the first one's time is over as well.
                assert (await waits.answer()).error["code"] == "client_timeout"
                other_is_told.set()
                assert (await begun.answer()).status == 200

    with a_gateway(tmp_path) as gateway:
        asyncio.run(story(gateway))
