"""A stream whose replica is lost goes on at another one, and the client cannot tell: a real gateway over simulators."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from cut_streams import CHAT, TEXT, Replicas, Seen, a_prompt, replicas, seen
from facts import soon
from gateway_process import Answer, Client, Gateway, ask, nothing_is_left, one_gateway
from shoal_serving.simulator.faults import Fault, Kind
from shoal_serving.simulator.knobs import Knobs

SLOW = Knobs(gap_seconds=0.02)
BYTES = Knobs(tokenizer="bytes")


gateway = one_gateway()


@pytest.fixture(autouse=True)
def each_test_leaves_nothing(gateway: Gateway) -> Iterator[None]:
    yield
    asyncio.run(nothing_is_left(gateway))


async def put(gateway: Gateway, running: Replicas, *numbers: int, **fields: Any) -> None:
    await asyncio.to_thread(gateway.put, running.route(*numbers, **fields))


async def outcomes(gateway: Gateway) -> dict[str, float]:
    names = ("ok", "continued", "upstream_lost", "cancelled")
    return {name: await asyncio.to_thread(ended, gateway, name) for name in names}


def ended(gateway: Gateway, outcome: str) -> float:
    return gateway.metric("shoal_requests_total", outcome=outcome, model="default/m")


async def stream(gateway: Gateway, body: dict[str, Any], path: str) -> Seen:
    return seen(await ask(gateway, body, path))


USAGE: dict[str, Any] = {"stream_options": {"include_usage": True}}
CUTS: dict[str, tuple[Kind, dict[str, Any]]] = {
    "between events": (Kind.CUT, {}),
    "inside an event": (Kind.CUT, {"inside": True}),
    "by a reset": (Kind.CUT, {"reset": True}),
    "by an error event": (Kind.ERROR_EVENT, {}),
    "by silence": (Kind.SILENT, {}),
}


@pytest.mark.parametrize("how", CUTS)
@pytest.mark.parametrize("path", [CHAT, TEXT])
@pytest.mark.parametrize("knobs", [Knobs(), BYTES], ids=["characters", "bytes"])
def test_cut_anywhere_it_is_the_unbroken_stream(gateway: Gateway, path: str, knobs: Knobs, how: str) -> None:
    kind, fields = CUTS[how]
    # Silence takes its time to be known, long enough that no busy machine makes one: each of the four stories of it
    # has another fourth of the places.
    every, offset = (4, 2 * (path == TEXT) + (knobs == BYTES)) if kind is Kind.SILENT else (1, 0)

    async def story() -> None:
        async with replicas(2, knobs) as both:
            await put(gateway, both, timeouts={"idleSeconds": 0.4} if kind is Kind.SILENT else {})
            before = await outcomes(gateway)
            cuts = 0
            for body in (a_prompt(path), a_prompt(path, **USAGE)):
                answer = await ask(gateway, body, path)
                unbroken = seen(answer)
                assert (len(unbroken.finish_reasons), unbroken.is_done, unbroken.error) == (1, True, "")
                for after in range(1 + offset, len(answer.events), every):
                    both.strike_once(kind, after, **fields)
                    assert await stream(gateway, body, path) == unbroken, f"cut after {after} events"
                    cuts += 1
                both.heal()
            now = await outcomes(gateway)
            assert now["upstream_lost"] == before["upstream_lost"]
            if how == "by a reset":  # it can overtake the first events; then the request is sent anew instead
                assert now["continued"] > before["continued"]
            else:
                assert now["continued"] == before["continued"] + cuts

    asyncio.run(story())


def test_the_death_of_an_engine_is_not_seen_by_its_streams(gateway: Gateway) -> None:
    async def story() -> None:
        long = a_prompt(CHAT, max_tokens=60)
        async with replicas(2) as both:
            await put(gateway, both)
            unbroken = await stream(gateway, long, CHAT)
            doomed, other = both.engines
            for engine in both.engines:
                engine.service.turn(SLOW)
            running = [asyncio.create_task(stream(gateway, long, CHAT)) for _ in range(8)]
            await doomed.until_in_flight(4)
            await other.until_in_flight(4)
            await asyncio.sleep(SLOW.gap_seconds * 5)
            doomed.service.kill_engine()
            assert await asyncio.gather(*running) == [unbroken] * 8

    asyncio.run(story())


IMAGE = {"type": "image_url", "image_url": {"url": "data:,"}}
NOT_CONTINUED: list[tuple[str, dict[str, Any]]] = [
    (CHAT, {"n": 2}),
    (CHAT, {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "none"}),
    (CHAT, {"functions": [{"name": "f"}]}),
    (CHAT, {"response_format": {"type": "json_object"}}),
    (CHAT, {"structured_outputs": {"choice": ["a"]}}),
    (CHAT, {"guided_regex": "a"}),
    (CHAT, {"logprobs": True}),
    (CHAT, {"prompt_logprobs": 1}),
    (CHAT, {"echo": True}),
    (CHAT, {"seed": 7}),
    (CHAT, {"seed": 0}),
    (CHAT, {"stop": "§"}),
    (CHAT, {"stop": ["§"]}),
    (CHAT, {"bad_words": ["x"]}),
    (CHAT, {"presence_penalty": 0.5}),
    (CHAT, {"frequency_penalty": 0.5}),
    (CHAT, {"min_tokens": 2}),
    (CHAT, {"use_beam_search": True}),
    (CHAT, {"truncate_prompt_tokens": 4}),
    (CHAT, {"messages": [{"role": "user", "content": [IMAGE, {"type": "text", "text": "Hello"}]}]}),
    (CHAT, {"audio": {"voice": "x", "format": "wav"}}),
    (CHAT, {"return_token_ids": True}),
    (CHAT, {"include_reasoning": False}),
    (TEXT, {"prompt": ["Hello", "there"]}),
    (TEXT, {"prompt": [72, 105]}),
    (TEXT, {"best_of": 2}),
    (TEXT, {"prompt_embeds": "AAAA"}),
    (TEXT, {"echo": True}),
    (TEXT, {"logprobs": 1}),
    (TEXT, {"logprobs": 0}),
    (TEXT, {"suffix": "x"}),
]


@pytest.mark.parametrize(("path", "fields"), NOT_CONTINUED)
def test_what_could_not_be_exact_ends_in_upstream_lost(gateway: Gateway, path: str, fields: dict[str, Any]) -> None:
    async def story() -> Answer:
        async with replicas() as both:
            await put(gateway, both)
            both.strike_once(Kind.CUT, 3)
            answer = await ask(gateway, a_prompt(path, **fields), path)
            assert len(both.asked(CHAT) + both.asked(TEXT)) == 1, "no other replica was asked"
            return answer

    answer = asyncio.run(story())
    assert '"upstream_lost"' in answer.events[-1]
    assert "[DONE]" not in answer.events


@pytest.mark.parametrize("options", [{}, USAGE], ids=["plain", "usage"])
@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_after_the_finish_reason_the_only_replica_may_go(gateway: Gateway, path: str, options: dict[str, Any]) -> None:
    async def story() -> None:
        async with replicas(1) as one:
            await put(gateway, one)
            body = a_prompt(path, **options)
            answer = await ask(gateway, body, path)
            finishing = next(n for n, event in enumerate(answer.events, 1) if '"finish_reason":"length"' in event)
            for after in range(finishing, len(answer.events)):
                one.strike_once(Kind.CUT, after)
                assert await stream(gateway, body, path) == seen(answer), f"cut after {after} events"
            assert len(one.asked(path)) == 1 + len(answer.events) - finishing

    asyncio.run(story())


@pytest.mark.parametrize("fields", [{"routing": {"continuation": "Off"}}, {"reasoning_parser": True}])
def test_a_route_that_does_not_continue_asks_for_no_ids(gateway: Gateway, fields: dict[str, Any]) -> None:
    async def story() -> None:
        async with replicas() as both:
            await put(gateway, both, **fields)
            both.strike_once(Kind.CUT, 3)
            lost = await stream(gateway, a_prompt(CHAT), CHAT)
            assert (lost.error, lost.is_done) == ("upstream_lost", False)

    asyncio.run(story())


def test_a_second_death_ends_the_stream(gateway: Gateway) -> None:
    async def story() -> None:
        async with replicas(3) as three:
            await put(gateway, three)
            unbroken = await stream(gateway, a_prompt(CHAT), CHAT)
            before = await outcomes(gateway)
            three.strike_once(Kind.CUT, 4, count=2)
            lost = await stream(gateway, a_prompt(CHAT), CHAT)
            assert (lost.error, lost.is_done) == ("upstream_lost", False)
            assert len(lost.text) == 7, "three tokens of the first replica, four of the second"
            assert unbroken.text.startswith(lost.text)
            assert (await outcomes(gateway))["upstream_lost"] == before["upstream_lost"] + 1

    asyncio.run(story())


@pytest.mark.parametrize("code", [400, 500, 503])
def test_a_replica_that_will_not_continue_is_followed_by_the_error_event(gateway: Gateway, code: int) -> None:
    async def story() -> None:
        async with replicas(2) as both:
            await put(gateway, both)
            both.strike_once(Kind.CUT, 4, path=CHAT)
            both.add(Fault(Kind.STATUS, code=code, path=TEXT))
            lost = await stream(gateway, a_prompt(CHAT), CHAT)
            assert (lost.error, len(lost.text)) == ("upstream_lost", 3)

    asyncio.run(story())


def test_a_replica_that_is_overloaded_hands_the_rest_to_the_next(gateway: Gateway) -> None:
    async def story() -> None:
        async with replicas(3) as three:
            await put(gateway, three)
            unbroken = await stream(gateway, a_prompt(CHAT), CHAT)
            three.strike_once(Kind.CUT, 4, path=CHAT)
            three.add(Fault(Kind.STATUS, code=503, path=TEXT, count=1))
            assert await stream(gateway, a_prompt(CHAT), CHAT) == unbroken

    asyncio.run(story())


@pytest.mark.parametrize("revisions", ["a", "ab"])
def test_without_another_replica_of_its_revision_it_ends(gateway: Gateway, revisions: str) -> None:
    async def story() -> None:
        async with replicas(len(revisions), revisions=revisions) as some:
            await put(gateway, some)
            some.strike_once(Kind.CUT, 4)
            lost = await stream(gateway, a_prompt(CHAT), CHAT)
            assert (lost.error, len(lost.text)) == ("upstream_lost", 3)
            assert some.asked(TEXT) == []

    asyncio.run(story())


def test_only_a_replica_of_its_revision_continues(gateway: Gateway) -> None:
    async def story() -> None:
        async with replicas(3, revisions="aab") as three:
            await put(gateway, three, 0)
            unbroken = await stream(gateway, a_prompt(CHAT), CHAT)
            await put(gateway, three)
            for _ in range(10):
                three.strike_once(Kind.CUT, 4)
                three.engines[2].service.faults.clear()
                assert await stream(gateway, a_prompt(CHAT), CHAT) == unbroken
            assert three.asked(TEXT, 2) == []

    asyncio.run(story())


def test_while_the_other_replica_is_full_the_rest_waits(gateway: Gateway) -> None:
    async def story() -> None:
        async with replicas(2, SLOW) as both:
            await put(gateway, both, queue={"maxInFlightPerReplica": 1})
            unbroken = await stream(gateway, a_prompt(CHAT), CHAT)
            both.strike_once(Kind.CUT, 3)
            first = asyncio.create_task(stream(gateway, a_prompt(CHAT), CHAT))
            second = asyncio.create_task(stream(gateway, a_prompt(CHAT), CHAT))
            assert await asyncio.gather(first, second) == [unbroken] * 2

    asyncio.run(story())


def test_the_wait_for_the_rest_has_its_end(gateway: Gateway) -> None:
    async def story() -> None:
        async with replicas(2) as both:
            queue = {"maxInFlightPerReplica": 1, "maxWaitSeconds": 0.5}
            both.engines[0].service.faults.add([Fault(Kind.CUT, after=4)])
            both.engines[1].service.faults.add([Fault(Kind.HANG)])
            await put(gateway, both, 1, queue=queue)
            hanging = asyncio.create_task(ask(gateway, a_prompt(CHAT), CHAT))
            await soon(lambda: len(both.asked(CHAT, 1)) == 1)
            await put(gateway, both, queue=queue)
            lost = await stream(gateway, a_prompt(CHAT), CHAT)
            assert (lost.error, len(lost.text)) == ("upstream_lost", 3)
            assert both.asked(TEXT) == []
            hanging.cancel()
            await asyncio.gather(hanging, return_exceptions=True)

    asyncio.run(story())


@pytest.mark.parametrize("rest", ["waits", "runs"])
def test_a_client_that_leaves_before_the_rest_is_there_is_forgotten(gateway: Gateway, rest: str) -> None:
    async def story() -> None:
        async with replicas(2) as both:
            queue = {"maxInFlightPerReplica": 1}
            before = await outcomes(gateway)
            async with Client.connect(gateway) as client, Client.connect(gateway) as other:
                if rest == "waits":
                    both.engines[1].service.faults.add([Fault(Kind.HANG)])
                    await put(gateway, both, 1, queue=queue)
                    other.send(a_prompt(CHAT))
                    await soon(lambda: len(both.asked(CHAT, 1)) == 1)
                await put(gateway, both, queue=queue)
                both.add(Fault(Kind.CUT, after=4, path=CHAT, count=1))
                both.add(Fault(Kind.HANG, path=TEXT))
                client.send(a_prompt(CHAT))
                await client.head()
                if rest == "waits":
                    await soon(lambda: gateway.metric("shoal_requests_waiting") == 1)
                else:
                    await soon(lambda: len(both.asked(TEXT)) == 1)
            await soon(lambda: gateway.metric("shoal_requests_in_flight") == 0)
            gone = 2 if rest == "waits" else 1
            await soon(lambda: ended(gateway, "cancelled") == before["cancelled"] + gone)
            await soon(lambda: {entry["outcome"] for entry in both.asked(TEXT)} <= {"aborted"})

    asyncio.run(story())


def test_a_client_that_does_not_read_bounds_what_is_held_of_the_rest(gateway: Gateway) -> None:
    async def story() -> None:
        async with replicas(2, Knobs(max_model_len=400_000)) as both:
            await put(gateway, both)
            body = a_prompt(CHAT, max_tokens=100_000)
            both.strike_once(Kind.CUT, 50)
            async with Client.connect(gateway, limit=2**10) as client:
                client.send(body)
                await soon(lambda: any(entry["tokensSent"] for entry in both.asked(TEXT)))
                sent, turns = 0, 0
                while turns < 50:  # so often the gateway did something else, and the replica sent nothing
                    assert await asyncio.to_thread(gateway.get, "/livez") == "ok\n"
                    sent, before = both.asked(TEXT)[0]["tokensSent"], sent
                    turns = turns + 1 if sent == before else 0
                print(f"{sent} tokens of the rest were sent while the client did not read")
                assert sent < 90_000, "the second replica is paused, as the first would be"
                assert len(seen(await client.answer()).text) == 100_000

    asyncio.run(story())
