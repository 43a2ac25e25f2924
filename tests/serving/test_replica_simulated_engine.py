"""The simulator as a replica's engine: its answers, cuts and death through an ASGI app, and what it refuses."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from replica_builders import a_config
from shoal_api import proof
from shoal_serving.replica import ranks, self_test, simulated_engine
from shoal_serving.replica.door import App, Message
from shoal_serving.replica.engine_args import RefusedArgument
from shoal_serving.replica.resuming import Resuming
from shoal_serving.replica.simulated_engine import Engine, Fails
from shoal_serving.replica.simulated_wire import Cut

CHAT = "/v1/chat/completions"


def an_engine(*args: str) -> Engine:
    config = a_config(source="org/model", args=list(args))
    return Engine(simulated_engine.parse(config, ranks.lay_out(config)))


async def ask(
    app: App,
    path: str,
    body: object = None,
    *,
    leaves: asyncio.Event | None = None,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> list[Message]:
    sent: list[Message] = []
    asked = [{"type": "http.request", "body": json.dumps(body).encode() if body else b"", "more_body": False}]

    async def receive() -> Message:
        if asked:
            return asked.pop()
        await (leaves or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST" if body else "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [
            (b"content-type", b"application/json"),
            (b"connection", b"close"),
            (b"content-length", b"999"),
            *headers,
        ],
    }
    await app(scope, receive, send)
    return sent


def a_chat(**fields: object) -> dict[str, object]:
    return {"model": "llama", "messages": [{"role": "user", "content": "hello"}]} | fields


def text(messages: list[Message]) -> str:
    return b"".join(message.get("body", b"") for message in messages).decode()


def test_answers_and_streams_pass_whole() -> None:
    async def story() -> None:
        app = await an_engine("--simulate-gap-seconds", "0.001").start()

        whole = await ask(app, CHAT, a_chat())
        streamed = await ask(app, CHAT, a_chat(stream=True))
        missing = await ask(app, "/v1/nothing")

        assert whole[0]["status"] == 200
        assert json.loads(text(whole))["object"] == "chat.completion"
        assert text(streamed).endswith("data: [DONE]\n\n")
        assert len(streamed) > 10
        assert missing[0]["status"] == 404
        assert [messages[-1]["more_body"] for messages in (whole, streamed, missing)] == [False] * 3

    asyncio.run(story())


def test_the_self_test_of_a_replica_succeeds() -> None:
    async def story() -> None:
        for args in ((), ("--simulate-embeds", "true")):
            engine = an_engine(*args)
            trial = self_test.trial_for(engine.tasks, "llama")
            assert trial is not None
            assert (await self_test.run(await engine.start(), trial)).succeeded

    asyncio.run(story())


def test_a_cut_of_the_simulators_cuts_the_answer() -> None:
    async def story() -> None:
        app = await an_engine().start()
        await ask(app, "/simulator/faults", {"kind": "close"})
        with pytest.raises(Cut):
            await ask(app, CHAT, a_chat())

    asyncio.run(story())


def test_a_client_that_leaves_is_seen_by_the_simulator() -> None:
    async def story() -> None:
        app = await an_engine("--simulate-gap-seconds", "60").start()
        leaves = asyncio.Event()
        asking = asyncio.create_task(ask(app, CHAT, a_chat(stream=True), leaves=leaves))
        while json.loads(text(await ask(app, "/simulator/state")))["inFlight"] != 1:  # noqa: ASYNC110  (the simulator tells when it is asked)
            await asyncio.sleep(0)

        leaves.set()
        await asking

        assert json.loads(text(await ask(app, "/simulator/state")))["inFlight"] == 0

    asyncio.run(story())


def test_it_goes_on_with_the_answer_of_another_replica() -> None:
    async def story() -> None:
        engine = an_engine("--simulate-tokenizer", "bytes")
        app = Resuming(await engine.start(), engine.text_of, engine.default_max_tokens)
        so_far = [256 + byte for byte in "hello €".encode()[:-1]]
        body = {"model": "llama", "prompt": so_far, "max_tokens": 3, "return_token_ids": True}
        rest = await ask(app, "/v1/completions", body, headers=[(proof.CONTINUE_HEADER.encode(), b"4")])

        dropped = [value for name, value in rest[0]["headers"] if name == proof.DROPPED_HEADER.encode()]
        assert dropped == [b"2"]
        usage = json.loads(text(rest))["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (6, 5)

    asyncio.run(story())


def test_a_killed_engine_is_dead() -> None:
    async def story() -> None:
        engine = an_engine()
        assert not engine.is_dead
        app = await engine.start()
        await ask(app, "/simulator/faults", {"kind": "engine-death", "after": 1})
        await ask(app, CHAT, a_chat(stream=True))
        assert engine.is_dead

    asyncio.run(story())


def test_it_has_all_that_a_replica_asks_of_its_engine() -> None:
    engine = an_engine()

    assert (engine.text_of([72, 105]), engine.default_max_tokens, engine.process_ids()) == ("Hi", None, [])


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--host", "x"], "--host"),
        (["--simulate-nothing", "1"], "nothing"),
        (
            ["--simulate-fail-at", "Engine", "--simulate-fail-permanently", "true", "--simulate-fail-sentence", "no"],
            "no",
        ),
    ],
)
def test_what_vllm_would_refuse_is_refused_here_too(args: list[str], says: str) -> None:
    with pytest.raises(RefusedArgument, match=says):
        an_engine(*args)


def test_a_start_that_fails_says_why() -> None:
    engine = an_engine("--simulate-fail-at", "Engine", "--simulate-fail-sentence", "told to")

    with pytest.raises(Fails, match="told to"):
        asyncio.run(engine.start())
