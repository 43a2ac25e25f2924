"""SIGTERM: not ready at once, running ones finish, waiting ones are served while the drain lasts, then sent away."""

import asyncio
import json
import signal
import socket
import subprocess
from pathlib import Path

from facts import DEADLINE_SECONDS, soon, until
from fake_engine import Call, engines
from gateway_process import Client, a_gateway, a_route, ask, chat, command
from held_ports import a_port
from shoal_serving.gateway import relay


class Held:
    """A stream of thirty tokens that stays in the middle until it may go on."""

    def __init__(self) -> None:
        self.may_go_on = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        call.head()
        for number in range(30):
            call.token(f"{number} ")
            await call.flushed()
            if number == 15:
                await self.may_go_on.wait()
        call.done()


def test_running_requests_finish_and_the_program_ends_with_zero(tmp_path: Path) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            a.always = held = Held()
            await asyncio.to_thread(gateway.put, a_route(a))
            assert await asyncio.to_thread(gateway.get, "/readyz") == "ok\n"
            async with Client.connect(gateway) as client, Client.connect(gateway) as idle:
                client.send(chat(stream=True))
                await soon(lambda: a.running == 1)
                gateway.process.send_signal(signal.SIGTERM)
                await soon(lambda: gateway.get("/readyz") == "not ready\n")
                assert await asyncio.to_thread(gateway.get, "/livez") == "ok\n"
                assert await idle.is_closed()
                held.may_go_on.set()
                answer = await client.answer()
                assert answer.events[-1] == "[DONE]"
                assert len(answer.events) == 31
            await soon(lambda: gateway.process.poll() == 0)

    with a_gateway(tmp_path) as gateway:
        asyncio.run(story())


def test_waiting_requests_are_served_while_the_drain_lasts(tmp_path: Path) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await asyncio.to_thread(gateway.put, a_route())
            held = asyncio.create_task(ask(gateway, chat()))
            await soon(lambda: gateway.metric("shoal_requests_waiting") == 1)
            gateway.process.send_signal(signal.SIGTERM)
            await soon(lambda: "reason=Draining" in gateway.log())
            await asyncio.to_thread(gateway.put, a_route(a))
            answer = await held
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            await soon(lambda: gateway.process.poll() == 0)

    with a_gateway(tmp_path) as gateway:
        asyncio.run(story())


def test_after_the_drain_waiting_requests_are_sent_away_and_running_ones_still_finish(tmp_path: Path) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            a.always = stream = Held()
            await asyncio.to_thread(gateway.put, a_route(a, queue={"maxInFlightPerReplica": 1}))
            running = asyncio.create_task(ask(gateway, chat(stream=True)))
            await soon(lambda: a.running == 1)
            held = asyncio.create_task(ask(gateway, chat()))
            await soon(lambda: gateway.metric("shoal_requests_waiting") == 1)
            gateway.process.send_signal(signal.SIGTERM)
            answer = await held
            assert (answer.status, answer.headers["x-should-retry"]) == (503, "true")
            assert a.running == 1
            stream.may_go_on.set()
            assert (await running).events[-1] == "[DONE]"
            await soon(lambda: gateway.process.poll() == 0)

    with a_gateway(tmp_path, "--drain-seconds=0.1") as gateway:
        asyncio.run(story())


def test_a_request_that_still_comes_in_is_answered(tmp_path: Path) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await asyncio.to_thread(gateway.put, a_route(a))
            content = json.dumps(chat()).encode()
            async with Client.connect(gateway) as client, Client.connect(gateway) as idle:
                head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n"
                client.writer.write(f"{head}content-type: application/json\r\n\r\n".encode() + content[:9])
                await soon(lambda: gateway.metric("shoal_held_bytes") > 0)
                gateway.process.send_signal(signal.SIGTERM)
                assert await idle.is_closed()
                for at in range(9, len(content)):
                    client.writer.write(content[at : at + 1])
                    assert await asyncio.to_thread(gateway.get, "/livez") == "ok\n"
                answer = await client.answer()
                assert (answer.status, answer.headers["connection"]) == (200, "close")
            await soon(lambda: gateway.process.poll() == 0)

    with a_gateway(tmp_path) as gateway:
        asyncio.run(story())


def test_a_request_that_stays_half_is_not_waited_for(tmp_path: Path) -> None:
    async def story() -> None:
        async with Client.connect(gateway) as client:
            client.writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
            await soon(lambda: gateway.metric("shoal_held_bytes") > 0)
            gateway.process.send_signal(signal.SIGTERM)
            # Far below the time after which any quiet connection is closed.
            await soon(lambda: gateway.process.poll() == 0, relay.QUIET_SECONDS - 15)

    with a_gateway(tmp_path) as gateway:
        asyncio.run(story())


async def large(call: Call) -> None:
    """More than sockets hold."""
    call.json({"text": "y" * 7_500_000})


def test_an_answer_that_its_client_takes_slowly_arrives_whole(tmp_path: Path) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            a.always = large
            await asyncio.to_thread(gateway.put, a_route(a))
            async with Client.connect(gateway, limit=1000) as client, Client.connect(gateway) as idle:
                client.send(chat())
                await soon(lambda: gateway.metric("shoal_requests_total", outcome="ok") == 1)
                gateway.process.send_signal(signal.SIGTERM)
                assert await idle.is_closed()
                for _ in range(20):
                    assert await asyncio.to_thread(gateway.get, "/livez") == "ok\n"
                answer = await client.answer()
                assert answer.whole
                assert len(answer.json["text"]) == 7_500_000
            await soon(lambda: gateway.process.poll() == 0)

    with a_gateway(tmp_path) as gateway:
        asyncio.run(story())


def test_an_answer_that_its_client_never_takes_ends_with_the_drain(tmp_path: Path) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            a.always = large
            await asyncio.to_thread(gateway.put, a_route(a))
            async with Client.connect(gateway, limit=1000) as client:
                client.send(chat())
                await soon(lambda: gateway.metric("shoal_requests_total", outcome="ok") == 1)
                gateway.process.send_signal(signal.SIGTERM)
                await soon(lambda: gateway.process.poll() == 0)

    with a_gateway(tmp_path, "--drain-seconds=0.1") as gateway:
        asyncio.run(story())


def test_new_connections_are_served_while_the_stop_settles(tmp_path: Path) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await asyncio.to_thread(gateway.put, a_route(a))
            gateway.process.send_signal(signal.SIGTERM)
            await soon(lambda: "reason=Draining" in gateway.log())
            answer = await ask(gateway, chat())
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            gateway.process.send_signal(signal.SIGTERM)
            await soon(lambda: gateway.process.poll() == 0)

    with a_gateway(tmp_path, "--settle-seconds=600") as gateway:
        asyncio.run(story())


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        await asyncio.to_thread(gateway.put, a_route())
        held = asyncio.create_task(ask(gateway, chat()))
        await soon(lambda: gateway.metric("shoal_requests_waiting") == 1)
        gateway.process.send_signal(signal.SIGTERM)
        await soon(lambda: "reason=Draining" in gateway.log())
        gateway.process.send_signal(signal.SIGTERM)
        answer = await held
        assert (answer.status, answer.headers["x-should-retry"]) == (503, "true")
        await soon(lambda: gateway.process.poll() == 0)

    with a_gateway(tmp_path) as gateway:
        asyncio.run(story())


def test_a_broken_routes_file_leaves_the_last_good_one_in_force(tmp_path: Path) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await asyncio.to_thread(gateway.put, a_route(a))
            for broken in ('{"models": [', '{"models": [{"name": "x"}]}', ""):
                before = gateway.log().count("reason=KeptLastRoutes")
                gateway.routes.write_text(broken)
                await soon(lambda count=before: gateway.log().count("reason=KeptLastRoutes") > count)
                assert (await ask(gateway, chat())).status == 200
            gateway.routes.unlink()
            await soon(lambda: "cannot be read" in gateway.log())
            assert (await ask(gateway, chat())).status == 200
            await asyncio.to_thread(gateway.put)
            assert (await ask(gateway, chat())).status == 404

    with a_gateway(tmp_path) as gateway:
        asyncio.run(story())


def test_a_taken_port_is_one_sentence_and_a_failure(tmp_path: Path) -> None:
    with a_gateway(tmp_path) as gateway:
        port = a_port()
        for listen, internal in ((gateway.port, port), (port, gateway.internal)):
            done = subprocess.run(
                command(
                    f"--routes={gateway.routes}",
                    f"--master-key-file={tmp_path / 'master-key'}",
                    f"--listen=127.0.0.1:{listen}",
                    f"--internal=127.0.0.1:{internal}",
                ),
                capture_output=True,
                text=True,
                timeout=DEADLINE_SECONDS,
            )
            assert done.returncode == 1
            taken = gateway.port if listen == gateway.port else gateway.internal
            last = done.stderr.strip().splitlines()[-1]
            assert last.endswith(f"127.0.0.1:{taken} is taken by another program; stop it or choose another port.")


def test_it_refuses_to_be_reachable_without_keys_and_names_every_fault_at_once(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("abc")
    port = a_port()
    done = subprocess.run(
        command(f"--listen=0.0.0.0:{port}", f"--master-key-file={key}", "--drain-seconds=soon"),
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
    )
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert [line.split(":")[0] for line in lines] == ["--routes", "--master-key-file", "--listen", "--drain-seconds"]
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_it_ends_by_itself_when_nothing_is_under_way(tmp_path: Path) -> None:
    with a_gateway(tmp_path) as gateway:
        gateway.process.send_signal(signal.SIGINT)
        until(lambda: gateway.process.poll() == 0)
