"""Every fault that the simulator can be ordered to have, seen by a client at a socket."""

import json
from typing import Any

import pytest

from shoal_api import proof
from shoal_serving.simulator.faults import BadFault, FaultBook, read, read_header
from shoal_serving.simulator.knobs import Knobs
from simulated import CHAT, Simulated, a_chat, an_admission, run_async, simulated

FAULTS = "/simulator/faults"
MESSAGES = "/v1/messages"
# The first event of a chat stream tells the role, the next ones a token each, then [DONE].
ROLE = 1


async def order(engine: Simulated, **fault: Any) -> None:
    assert (await engine.ask("POST", FAULTS, fault)).status == 200


@pytest.mark.parametrize(("reset", "end"), [(False, "fin"), (True, "reset")])
def test_close_ends_the_connection_before_the_first_byte(reset: bool, end: str) -> None:
    async def main() -> None:
        async with simulated() as engine:
            await order(engine, kind="close", reset=reset, count=1)
            async with engine.client() as client:
                client.send("POST", CHAT, a_chat())
                assert await client.heard_end() == end
            assert (await engine.ask("POST", CHAT, a_chat())).status == 200

    run_async(main())


@pytest.mark.parametrize(("reset", "end"), [(False, "fin"), (True, "reset")])
def test_accept_and_close(reset: bool, end: str) -> None:
    async def main() -> None:
        async with simulated() as engine, engine.client() as before:
            await before.ask("POST", FAULTS, {"kind": "accept-close", "reset": reset})
            async with engine.client() as client:
                assert await client.heard_end() == end
            assert (await before.ask("DELETE", FAULTS)).status == 200
            assert (await engine.ask("POST", CHAT, a_chat())).status == 200

    run_async(main())


def test_accept_and_hang_never_reads() -> None:
    async def main() -> None:
        async with simulated() as engine, engine.client() as before:
            await before.ask("POST", FAULTS, {"kind": "accept-hang"})
            async with engine.client() as client:
                client.send("POST", CHAT, a_chat())
                state = {"connections": 0}
                while state["connections"] < 2:
                    state = (await before.ask("GET", "/simulator/state")).json()
                assert state["arrived"] == 0

    run_async(main())


def test_hang_reads_and_is_noted_when_the_client_leaves() -> None:
    async def main() -> None:
        async with simulated() as engine:
            await order(engine, kind="hang")
            async with engine.client() as client:
                client.send("POST", CHAT, a_chat(stream=True))
                await engine.until(inFlight=1)
            await engine.until(inFlight=0)
            (entry,) = (await engine.ask("GET", "/simulator/log")).json()
            assert (entry["outcome"], entry["fault"]) == ("aborted", "hang")

    run_async(main())


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("after", [0, 1, 4])
def test_a_cut_stream_has_so_many_whole_events(after: int, inside: bool, reset: bool) -> None:
    async def main() -> None:
        async with simulated() as engine:
            unbroken = await engine.ask("POST", CHAT, a_chat(stream=True))
            await order(engine, kind="cut", after=after, inside=inside, reset=reset, count=1)
            cut = await engine.ask("POST", CHAT, a_chat(stream=True))
            assert not cut.is_whole
            assert len(cut.events) == after
            assert unbroken.text.startswith(cut.text)
            assert b"\n\n" not in cut.body[-3:] if inside else cut.body.endswith(b"\n\n") or not cut.body
            assert (await engine.ask("POST", CHAT, a_chat(stream=True))).is_whole

    run_async(main())


@pytest.mark.parametrize("reset", [False, True])
def test_a_cut_body_is_half_a_body(reset: bool) -> None:
    async def main() -> None:
        async with simulated() as engine:
            await order(engine, kind="cut", reset=reset)
            cut = await engine.ask("POST", CHAT, a_chat())
        assert not cut.is_whole
        assert 0 < len(cut.body) < int(cut.headers["content-length"])

    run_async(main())


def test_a_cut_counts_events_in_a_paced_stream_too() -> None:
    async def main() -> None:
        async with simulated(Knobs(first_token_seconds=0.01, gap_seconds=0.005)) as engine:
            await order(engine, kind="cut", after=ROLE + 3)
            cut = await engine.ask("POST", CHAT, a_chat(stream=True))
            assert (len(cut.events), len(cut.text)) == (4, 3)
            await engine.until(running=0, inFlight=0)

    run_async(main())


@pytest.mark.parametrize("code", [400, 429, 500, 502, 503, 504])
def test_status_answers_with_an_error_of_that_status(code: int) -> None:
    async def main() -> None:
        async with simulated() as engine:
            await order(engine, kind="status", code=code)
            plain = await engine.ask("POST", CHAT, a_chat())
            stream = await engine.ask("POST", CHAT, a_chat(stream=True))
            anthropic = await engine.ask("POST", MESSAGES, a_chat())
        assert plain.status == stream.status == anthropic.status == code
        assert plain.json()["error"]["code"] == code
        assert anthropic.json()["type"] == "error"

    run_async(main())


@pytest.mark.parametrize("code", [500, 503])
@pytest.mark.parametrize("after", [0, 3])
def test_an_error_event_comes_in_a_stream_of_200(code: int, after: int) -> None:
    async def main() -> None:
        async with simulated() as engine:
            await order(engine, kind="error-event", code=code, after=after)
            stream = await engine.ask("POST", CHAT, a_chat(stream=True))
            plain = await engine.ask("POST", CHAT, a_chat())
        assert (stream.status, len(stream.events), stream.events[-1]) == (200, after + 2, "[DONE]")
        assert json.loads(stream.events[after])["error"]["code"] == code
        assert plain.status == code

    run_async(main())


def test_silent_sends_nothing_more_and_keeps_the_connection() -> None:
    async def main() -> None:
        async with simulated() as engine:
            await order(engine, kind="silent", after=2)
            async with engine.client() as client:
                client.send("POST", CHAT, a_chat(stream=True))
                await client.up_to(b"\r\n\r\n")
                assert [bool(await client.chunk()) for _ in range(2)] == [True, True]
                await engine.until(inFlight=1)
            await engine.until(inFlight=0)

    run_async(main())


def test_slow_takes_longer() -> None:
    async def main() -> None:
        async with simulated(Knobs(first_token_seconds=0.001)) as engine:
            await order(engine, kind="slow", factor=1e6, count=1)
            async with engine.client() as slow:
                slow.send("POST", CHAT, a_chat())
                await engine.until(running=1)
                assert (await engine.ask("POST", CHAT, a_chat())).status == 200
                await engine.until(running=1)

    run_async(main())


def test_an_engines_death_ends_streams_like_vllm_and_fails_what_comes_later() -> None:
    async def main() -> None:
        async with simulated(Knobs(gap_seconds=0.01, header_faults=True)) as engine:
            long = a_chat(stream=True, max_tokens=5000, ignore_eos=True)
            async with engine.client() as chat, engine.client() as message, engine.client() as plain:
                chat.send("POST", CHAT, long)
                message.send("POST", MESSAGES, long)
                plain.send("POST", CHAT, a_chat(max_tokens=5000, ignore_eos=True))
                await engine.until(running=3)
                killer = await engine.ask("POST", CHAT, long, {"x-simulate": "engine-death after=3"})
                others = await chat.hear(), await message.hear(), await plain.hear()
            assert (len(killer.events), json.loads(killer.events[3])["error"]["code"]) == (5, 500)
            assert (others[0].events[-1], others[2].status) == ("[DONE]", 500)
            assert json.loads(others[0].events[-2])["error"]["code"] == 500
            assert json.loads(others[1].events[-1])["error"]["type"] == "internal_error"
            assert (await engine.ask("POST", CHAT, a_chat())).status == 500
            assert (await engine.ask("GET", "/health")).status == 503
            assert (await engine.ask("GET", "/v1/models")).status == 200

    run_async(main())


def test_busy_and_misdirected_are_the_replicas_own_refusals() -> None:
    async def main() -> None:
        async with simulated() as engine:
            await order(engine, kind="busy", count=1)
            busy = await engine.ask("POST", CHAT, a_chat())
            await order(engine, kind="misdirected", count=1)
            misdirected = await engine.ask("POST", CHAT, a_chat())
        assert (busy.status, busy.headers[proof.BUSY_HEADER], misdirected.status) == (503, "limit", 421)

    run_async(main())


@pytest.mark.parametrize("kind", ["hello-proof", "hello-uid"])
def test_a_failing_hello_gives_a_proof_that_is_none(kind: str) -> None:
    async def main() -> None:
        admission = an_admission()
        async with simulated(admission=admission) as engine:
            engine.service.faults.add([read({"kind": kind, "count": 1})])
            nonce = {proof.NONCE_HEADER: "a" * 32}
            wrong = await engine.ask("GET", proof.HELLO_PATH, headers=nonce)
            right = await engine.ask("GET", proof.HELLO_PATH, headers=nonce)
        assert wrong.status == 200
        assert wrong.headers[proof.PROOF_HEADER] != admission.answer_hello("a" * 32)
        assert right.headers[proof.PROOF_HEADER] == admission.answer_hello("a" * 32)

    run_async(main())


def test_a_fault_can_be_bound_to_a_path() -> None:
    async def main() -> None:
        async with simulated() as engine:
            await order(engine, kind="close", path="/health")
            async with engine.client() as client:
                client.send("GET", "/health")
                assert await client.heard_end() == "fin"
            assert (await engine.ask("POST", CHAT, a_chat())).status == 200

    run_async(main())


def test_the_header_carries_a_fault_only_where_that_is_allowed() -> None:
    async def main() -> None:
        header = {"x-simulate": "status code=504"}
        elsewhere = {"x-simulate": "status code=504 replica=sim-9"}
        async with simulated() as engine:
            assert (await engine.ask("POST", CHAT, a_chat(), header)).status == 200
        async with simulated(Knobs(header_faults=True)) as engine:
            assert (await engine.ask("POST", CHAT, a_chat(), header)).status == 504
            assert (await engine.ask("POST", CHAT, a_chat(), elsewhere)).status == 200

    run_async(main())


def test_a_fault_meets_so_many_or_such_a_fraction_of_the_requests() -> None:
    counted, drawn = FaultBook(), FaultBook()
    counted.add([read({"kind": "close", "count": 3})])
    drawn.add([read({"kind": "close", "fraction": 0.25, "seed": 7})])
    assert [counted.of_request(CHAT, True) is not None for _ in range(5)] == [True] * 3 + [False] * 2
    assert not counted.on_requests
    draws = [drawn.of_request(CHAT, True) is not None for _ in range(4000)]
    again = FaultBook()
    again.add([read({"kind": "close", "fraction": 0.25, "seed": 7})])
    assert 900 < sum(draws) < 1100
    assert draws[:100] == [again.of_request(CHAT, True) is not None for _ in range(100)]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"kind": "sneeze"}, "there is no fault sneeze"),
        ({}, "there is no fault None"),
        ({"kind": "cut", "when": 3}, "a fault has no field when"),
        ({"kind": "cut", "after": "soon"}, "the fault's after must be a number, not soon"),
    ],
)
def test_a_fault_that_does_not_exist_is_refused(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(BadFault, match=sentence):
        read(values)


def test_a_header_is_read_as_kind_and_settings() -> None:
    fault = read_header("cut after=3; inside reset=true")
    assert (fault.kind, fault.after, fault.inside, fault.reset) == ("cut", 3, True, True)
