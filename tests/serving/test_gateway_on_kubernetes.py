"""The gateway program on a fake API server: what it routes, when it is ready, and how it lives through losses."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster_objects import a_model, a_slice, an_endpoint
from facts import soon, until
from fake_engine import FakeEngine, engines
from fake_kube import MODELS, SLICES, FakeKube, a_cluster
from gateway_process import Gateway, a_gateway, ask, chat, fetch


@pytest.fixture
def kube() -> Iterator[FakeKube]:
    with a_cluster() as kube:
        yield kube


def put_model(
    kube: FakeKube, *replicas: FakeEngine, name: str = "m", uid: str = "uid-m", slice_name: str = "s"
) -> None:
    """A model whose slice names these replicas as its pods."""
    kube.put(MODELS, a_model(name, uid=uid))
    put_slice(kube, *replicas, uid=uid, name=slice_name)


def put_slice(kube: FakeKube, *replicas: FakeEngine, uid: str = "uid-m", name: str = "s") -> None:
    found = [replica.endpoint() for replica in replicas]
    ports = [{"name": "http", "port": one.port} for one in found] or None
    pods = [an_endpoint(one.replica, one.host, one.uid) for one in found]
    kube.put(SLICES, a_slice(*pods, name=name, model_uid=uid, ports=ports))


@contextlib.contextmanager
def on(kube: FakeKube, folder: Path, *flags: str, is_ready: bool = True) -> Iterator[Gateway]:
    """A gateway that has its first list."""
    with a_gateway(folder, "--settle-seconds=0", *flags, kubeconfig=kube.kubeconfig(folder)) as gateway:
        if is_ready:
            until(lambda: gateway.get("/readyz") == "ok\n")
        yield gateway


def child_of(gateway: Gateway) -> int:
    process = gateway.process.pid
    (child,) = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return int(child)


def is_there(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    return False


def test_it_is_ready_after_the_first_full_list_and_says_so_until_then(kube: FakeKube, tmp_path: Path) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await asyncio.to_thread(put_model, kube, a)
            assert await asyncio.to_thread(gateway.get, "/readyz") == "not ready\n"
            assert await asyncio.to_thread(gateway.get, "/livez") == "ok\n"
            answer = await ask(gateway, chat())
            assert (answer.status, answer.error["code"]) == (503, "gateway_starting")
            assert answer.headers["x-should-retry"] == "true"
            kube.refuse.clear()
            await soon(lambda: gateway.get("/readyz") == "ok\n")
            assert (await ask(gateway, chat())).status == 200
            assert (await ask(gateway, chat(model="unknown"))).status == 404

    kube.refuse["list"] = 500
    with on(kube, tmp_path, is_ready=False) as gateway:
        asyncio.run(story())


def test_replicas_come_and_go_as_their_slices_say(kube: FakeKube, tmp_path: Path) -> None:
    async def story() -> None:
        async with engines("a", "b") as (a, b):
            await asyncio.to_thread(kube.put, MODELS, a_model())
            await soon(lambda: b'"id":"m"' in fetch(gateway, "/v1/models").body)
            held = asyncio.create_task(ask(gateway, chat(model="m-alias")))
            await soon(lambda: gateway.metric("shoal_requests_waiting") == 1)
            await asyncio.to_thread(put_slice, kube, a)
            assert (await held).status == 200
            await asyncio.to_thread(put_slice, kube, b)
            await soon(lambda: gateway.log().count("models=1 endpoints=1") == 2)
            assert (await ask(gateway, chat())).status == 200
            assert (len(a.calls), len(b.calls)) == (1, 1)
            await asyncio.to_thread(kube.delete, MODELS, "default", "m")
            await soon(lambda: gateway.log().count("models=0 ") == 2)
            assert (await ask(gateway, chat())).status == 404

    with on(kube, tmp_path) as gateway:
        asyncio.run(story())


def test_a_model_made_anew_under_its_name_gets_no_prompt_to_the_old_ones_pods(kube: FakeKube, tmp_path: Path) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await asyncio.to_thread(put_model, kube, a)
            await soon(lambda: gateway.metric("shoal_endpoints", state="open") == 1)
            await asyncio.to_thread(kube.put, MODELS, a_model(uid="second", spec={"queue": {"maxWaitSeconds": 0.1}}))
            await soon(lambda: gateway.metric("shoal_endpoints") == 0)
            answer = await ask(gateway, chat())
            assert (answer.status, answer.error["code"]) == (503, "model_not_ready")
            assert a.calls == []

    with on(kube, tmp_path) as gateway:
        asyncio.run(story())


def test_it_serves_from_what_it_knows_while_the_api_server_is_away(kube: FakeKube, tmp_path: Path) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await asyncio.to_thread(put_model, kube, a)
            await soon(lambda: gateway.metric("shoal_endpoints", state="open") == 1)
            await asyncio.to_thread(kube.go)
            await soon(lambda: gateway.metric("shoal_watch_losses_total") >= 4)
            assert (await ask(gateway, chat())).status == 200
            assert await asyncio.to_thread(gateway.get, "/readyz") == "ok\n"
            await asyncio.to_thread(kube.come)
            await asyncio.to_thread(kube.put, MODELS, a_model("late", uid="uid-late"))
            await soon(lambda: b'"id":"late"' in fetch(gateway, "/v1/models").body)
            assert gateway.metric("shoal_watch_lists_total", resource="modeldeployments") == 1

    with on(kube, tmp_path) as gateway:
        asyncio.run(story())


def test_a_killed_child_is_replaced_and_nobody_notices(kube: FakeKube, tmp_path: Path) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await asyncio.to_thread(put_model, kube, a)
            await soon(lambda: gateway.metric("shoal_endpoints", state="open") == 1)
            os.kill(child_of(gateway), signal.SIGKILL)
            await asyncio.to_thread(kube.put, MODELS, a_model("late", uid="uid-late"))
            assert (await ask(gateway, chat())).status == 200
            await soon(lambda: b'"id":"late"' in fetch(gateway, "/v1/models").body)
            assert (await ask(gateway, chat())).status == 200
            assert "the watching child ended with -9" in gateway.log()

    with on(kube, tmp_path) as gateway:
        asyncio.run(story())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_child_never_outlives_the_gateway(kube: FakeKube, tmp_path: Path, number: signal.Signals) -> None:
    async def story() -> None:
        child = child_of(gateway)
        assert is_there(child)
        gateway.process.send_signal(number)
        await soon(lambda: not is_there(child))

    with on(kube, tmp_path) as gateway:
        asyncio.run(story())


def test_the_routes_are_followed_while_it_drains(kube: FakeKube, tmp_path: Path) -> None:
    async def story() -> None:
        async with engines("a") as (a,):
            await asyncio.to_thread(put_model, kube)
            await soon(lambda: "models=1" in gateway.log())
            held = asyncio.create_task(ask(gateway, chat()))
            await soon(lambda: gateway.metric("shoal_requests_waiting") == 1)
            # As a process manager would: to the program and to what it started.
            os.kill(child_of(gateway), signal.SIGTERM)
            gateway.process.send_signal(signal.SIGTERM)
            await soon(lambda: gateway.get("/readyz") == "not ready\n")
            await asyncio.to_thread(put_slice, kube, a)
            assert (await held).status == 200
            await soon(lambda: gateway.process.poll() == 0)

    with on(kube, tmp_path) as gateway:
        asyncio.run(story())


def test_only_the_named_namespaces_are_served(kube: FakeKube, tmp_path: Path) -> None:
    async def story() -> None:
        for namespace in ("default", "team", "other"):
            name = f"of-{namespace}"
            await asyncio.to_thread(kube.put, MODELS, a_model(name, namespace, f"uid-{name}"))
        await soon(lambda: "models=2" in gateway.log())
        names = fetch(gateway, "/v1/models").body
        assert (b"of-default" in names, b"of-team" in names, b"of-other" in names) == (True, True, False)
        assert all("/namespaces/default/" in url or "/namespaces/team/" in url for url in kube.asked)

    with on(kube, tmp_path, "--namespaces=default,team") as gateway:
        asyncio.run(story())
