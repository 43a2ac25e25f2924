"""The load stream between real gateway processes and the operator's end: told at once, summed, sent back, believed."""

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import fake_engine
from facts import DEADLINE_SECONDS, soon
from fake_engine import MASTER_KEY, engines
from gateway_process import Gateway, a_gateway, a_route, ask, chat
from shoal_api import proof
from shoal_api.load import LOAD_STREAM_PATH, VERSION
from shoal_operator import merging
from shoal_operator.load_source import Loads

MODEL = "default/m"
TOKEN = proof.load_token(MASTER_KEY)


def now() -> datetime:
    return datetime.now(UTC)


class Listening:
    """The operator's end, with what it was woken by."""

    def __init__(self, *ports: int, token: str = TOKEN) -> None:
        self.wakes: list[frozenset[str] | None] = []
        there = [merging.Gateway(f"g{n}", "127.0.0.1", port, is_ready=True) for n, port in enumerate(ports)]
        self.loads = Loads(lambda: there, token, now, self.wakes.append)

    @property
    def load(self) -> Any:
        return self.loads.of(MODEL, now())

    @property
    def newest(self) -> tuple[int, int]:
        """Waiting and in flight; (-1, -1) where nothing is known."""
        samples = self.load.samples
        return (samples[-1].waiting, samples[-1].in_flight) if samples else (-1, -1)


@contextlib.asynccontextmanager
async def listening(*ports: int, token: str = TOKEN) -> AsyncIterator[Listening]:
    heard = Listening(*ports, token=token)
    running = asyncio.create_task(heard.loads.run())
    try:
        yield heard
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def true(fact: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not fact():  # noqa: ASYNC110  (a fact, not an event)
            await asyncio.sleep(0.01)


async def hold(gateway: Gateway, count: int) -> list["asyncio.Task[Any]"]:
    tasks = [asyncio.create_task(ask(gateway, chat())) for _ in range(count)]
    await soon(lambda: sum(v["waiting"] + v["inFlight"] for v in gateway.load()["models"].values()) >= count)
    return tasks


async def let_go(tasks: list["asyncio.Task[Any]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_the_first_request_that_is_held_is_told_at_once_and_the_last_one_leaves_a_time(tmp_path: Path) -> None:
    async def story() -> None:
        with a_gateway(tmp_path) as gateway:
            await asyncio.to_thread(gateway.put, a_route())
            async with listening(gateway.internal) as heard:
                await true(lambda: heard.newest == (0, 0))
                heard.wakes.clear()
                tasks = await hold(gateway, 3)
                await true(lambda: heard.newest == (3, 0))
                assert heard.wakes[0] == {MODEL}
                ended = now()
                await let_go(tasks)
                await true(lambda: heard.newest == (0, 0))
                await true(lambda: heard.load.busy_at is not None)
                # Idle times are told to a tenth of a second.
                assert ended - timedelta(seconds=0.1) <= heard.load.busy_at <= now()
                assert heard.load.missing == ()

    asyncio.run(story())


def test_an_operator_that_comes_later_learns_when_somebody_last_asked(tmp_path: Path) -> None:
    async def story() -> None:
        with a_gateway(tmp_path) as gateway:
            await asyncio.to_thread(gateway.put, a_route(), a_route(name="never", model_uid="uid-never"))
            before = now()
            await let_go(await hold(gateway, 1))
            await soon(lambda: gateway.load()["models"] == {})
            async with listening(gateway.internal) as heard:
                await true(lambda: heard.load.busy_at is not None)
                # Idle times are told to a tenth of a second.
                assert before - timedelta(seconds=0.1) <= heard.load.busy_at <= now()
                never = heard.loads.of("default/never", now())
                assert never.busy_at is None
                assert never.known_since is not None
                assert never.known_since <= before

    asyncio.run(story())


def test_three_gateways_are_summed_and_one_that_stands_still_is_named(tmp_path: Path) -> None:
    async def story() -> None:
        with contextlib.ExitStack() as stack:
            gateways = []
            for number in range(3):
                folder = tmp_path / str(number)
                folder.mkdir()
                gateways.append(stack.enter_context(a_gateway(folder)))
                await asyncio.to_thread(gateways[-1].put, a_route())
            async with listening(*(gateway.internal for gateway in gateways)) as heard:
                tasks = [task for n, gateway in enumerate(gateways) for task in await hold(gateway, n + 1)]
                await true(lambda: heard.newest == (6, 0))

                gateways[2].process.send_signal(signal.SIGSTOP)
                try:
                    await true(lambda: any("gateway g2 is Ready" in said for said in heard.load.silent))
                    assert heard.newest == (6, 0), "what it told last still counts"
                finally:
                    gateways[2].process.send_signal(signal.SIGCONT)
                await true(lambda: not heard.load.missing)
                assert heard.newest == (6, 0)
                await let_go(tasks)

    asyncio.run(story())


def test_what_another_gateway_has_in_flight_weighs_in_the_choice(tmp_path: Path) -> None:
    async def story() -> None:
        async with engines("a", "b") as (a, b):
            a.always = b.always = fake_engine.hang
            with contextlib.ExitStack() as stack:
                gateways = []
                for number in range(2):
                    folder = tmp_path / str(number)
                    folder.mkdir()
                    gateways.append(stack.enter_context(a_gateway(folder)))
                first, second = gateways

                async def at_a(requests: int) -> int:
                    """How many of so many, one after the other, the second sends to a."""
                    before = len(a.calls)
                    for _ in range(requests):
                        assert (await ask(second, chat())).status == 200
                    return len(a.calls) - before

                patient = {"connectSeconds": 30}  # who cannot be reached in time would be passed over, too
                await asyncio.to_thread(first.put, a_route(a, timeouts=patient))
                await asyncio.to_thread(second.put, a_route(a, b, timeouts=patient))
                tasks = await hold(first, 8)
                await true(lambda: a.running == 8)
                # From here on, so that the sums are nothing or all eight, never some of them.
                async with listening(first.internal, second.internal):
                    a.always = b.always = fake_engine.answer
                    async with asyncio.timeout(DEADLINE_SECONDS):
                        while await at_a(12):
                            pass  # the sums come back with the second's next message
                    a.always = b.always = fake_engine.hang
                    tasks += await hold(second, 8)
                    await true(lambda: a.running + b.running == 16)
                    assert (a.running, b.running) == (8, 8)
                await let_go(tasks)

    asyncio.run(story())


def test_without_the_token_of_the_installation_nothing_is_told(tmp_path: Path) -> None:
    async def story() -> None:
        with a_gateway(tmp_path) as gateway:
            await asyncio.to_thread(gateway.put, a_route())
            async with listening(gateway.internal, token="0" * 64) as heard:
                await true(lambda: heard.load.silent)
                assert heard.newest == (-1, -1)
            for head in ("", "authorization: Bearer x\r\n", f"authorization: Basic {TOKEN}\r\n"):
                reader, writer = await asyncio.open_connection("127.0.0.1", gateway.internal)
                writer.write(f"POST {LOAD_STREAM_PATH} HTTP/1.1\r\nhost: x\r\n{head}content-length: 0\r\n\r\n".encode())
                assert b" 401 " in await reader.readline()
                writer.transport.abort()

    asyncio.run(story())


def _chunk(text: str) -> bytes:
    return b"%x\r\n%b\r\n" % (len(text), text.encode())


_GOOD = json.dumps({"version": VERSION, "boot": "b", "sequence": 0, "isWhole": True, "models": {}}) + "\n"
_HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 503 X\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}\n",
        _HEAD + b"zz\r\n",
        _HEAD + b"-5\r\n",
        _HEAD + b"fffffffffff\r\n",
        _HEAD + _chunk("no json\n"),
        _HEAD + _chunk("[]\n"),
        _HEAD + _chunk('{"boot": 5}\n'),
        _HEAD + _chunk('{"boot": "b", "models": {"m": {"waiting": -1}}}\n'),
        _HEAD + _chunk(json.dumps({"version": VERSION + 2, "boot": "b"}) + "\n"),
        _HEAD + _chunk('{"boot": "b", "isWhole": false}\n'),
        _HEAD + _chunk('{"boot": "b"'),
    ],
)
def test_what_is_no_load_is_not_believed_and_is_asked_again(said: bytes, caplog: pytest.LogCaptureFixture) -> None:
    dialled = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal dialled
        dialled += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said if dialled <= 2 else _HEAD + _chunk(_GOOD))
        await writer.drain()
        if dialled <= 2:
            writer.close()
            return
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    async def story() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with listening(port) as heard:
            await true(lambda: dialled == 2)
            assert heard.newest == (-1, -1)
            await true(lambda: heard.newest == (0, 0))
        assert "reason=LoadUnheard" in caplog.text
        server.close()
        await server.wait_closed()

    asyncio.run(story())


async def _talk(gateway: Gateway, *lines: str) -> bytes:
    """An operator that says these lines; what it hears until the gateway ends the stream."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.internal)
    head = f"POST {LOAD_STREAM_PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n"
    writer.write(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
    for line in lines:
        writer.write(_chunk(line))
    async with asyncio.timeout(DEADLINE_SECONDS):
        heard = b""
        while not heard.endswith(b"0\r\n\r\n"):
            heard += await reader.read(65536)
    writer.transport.abort()
    return heard


@pytest.mark.parametrize(
    "line", ["no json\n", "[]\n", '{"elsewhere": 5}\n', f'{{"version": {VERSION + 2}, "elsewhere": {{}}}}\n']
)
def test_a_gateway_ends_a_stream_that_makes_no_sense_and_goes_on_serving(tmp_path: Path, line: str) -> None:
    async def story() -> None:
        with a_gateway(tmp_path) as gateway:
            await asyncio.to_thread(gateway.put, a_route())
            assert b" 200 " in await _talk(gateway, line)
            async with listening(gateway.internal) as heard:
                await true(lambda: heard.newest == (0, 0))
            assert "Traceback" not in gateway.log()
            assert "reason=LoadStreamEnded" in gateway.log()

    asyncio.run(story())


def test_an_operator_that_says_nothing_for_long_is_left(tmp_path: Path) -> None:
    async def story() -> None:
        with a_gateway(tmp_path) as gateway:
            await asyncio.to_thread(gateway.put, a_route())
            heard = await _talk(gateway)
            assert heard.count(b'"sequence":') >= 4, "meanwhile it was told every second"

    asyncio.run(story())
