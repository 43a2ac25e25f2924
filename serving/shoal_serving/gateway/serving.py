"""Open the gateway's two ports, serve, and stop in order: not ready, finish, send away who waits, end."""

import asyncio
import errno
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from fastapi import FastAPI
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from shoal_api.routes import RouteDocument
from shoal_serving.gateway import app, keys, relay, upstream
from shoal_serving.gateway.access_log import AccessLog
from shoal_serving.gateway.cluster_source import ClusterSource, child_command
from shoal_serving.gateway.exposition import Exposition
from shoal_serving.gateway.keys import NO_KEYS
from shoal_serving.gateway.load_telling import LoadStream
from shoal_serving.gateway.settings import Address, Cluster, Settings
from shoal_serving.gateway.switchboard import SWEEP_SECONDS, Switchboard, boot_random
from shoal_serving.gateway.waiting_room import ByteBudget
from shoal_serving.gateway.watch import KEYS_SECONDS, ROUTES_SECONDS, WatchedFile, read_routes

log = logging.getLogger(__name__)

_BACKLOG = 2048


class PortTaken(Exception):
    """An address that cannot be listened on."""


async def serve(
    settings: Settings,
    stop: asyncio.Event,
    end: asyncio.Event,
    clock: Callable[[], float],
    wall_clock: Callable[[], str],
) -> None:
    """Serve until `stop`, then drain; `end` cuts the drain short."""
    loop = asyncio.get_running_loop()

    def call_at(at: float, then: Callable[[], None]) -> None:
        loop.call_later(max(at - clock(), 0.0), then)

    access_log = AccessLog(wall_clock) if settings.access_log else AccessLog(wall_clock, None)
    switchboard = Switchboard(
        upstream.maker(settings.master_key),
        ByteBudget(settings.max_held_bytes),
        settings.max_body_bytes,
        access_log,
        clock,
        boot_random(),
        call_at,
        NO_KEYS if settings.keys_file is not None else None,
    )
    routes = _routes(settings.routes, switchboard, clock)
    watched: list[WatchedFile[Any] | ClusterSource] = [routes]
    if settings.keys_file is not None:
        key_file = WatchedFile(settings.keys_file, keys.read, switchboard.admit, KEYS_SECONDS, "KeptLastKeys")
        key_file.look()
        watched.append(key_file)
    clients = relay.Clients()
    states = routes.states if isinstance(routes, ClusterSource) else dict
    exposition = Exposition(lambda: switchboard.reading(len(clients.connections), states()))

    def is_ready() -> bool:
        return routes.has_content and not switchboard.is_draining

    client_config = _config(app.for_clients(lambda: switchboard.table, lambda: switchboard.keyring))
    load_stream = LoadStream(switchboard, switchboard.alarm, settings.master_key)
    internal_config = _config(app.internal(is_ready, exposition.pieces, switchboard.load, load_stream))
    internal_state = ServerState()

    def meet() -> asyncio.Protocol:
        # It has the methods of a Protocol and not its class: compiled, a class of Python's as base would slow it down.
        return cast("asyncio.Protocol", relay.Relay(switchboard, client_config, clients))

    front = await _listen("--listen", settings.listen, meet)
    try:
        back = await _listen(
            "--internal", settings.internal, lambda: HttpToolsProtocol(internal_config, internal_state, {}, loop)
        )
    except PortTaken:
        front.close()
        raise
    log.info("reason=Listening listen=%s internal=%s relay=%s", settings.listen, settings.internal, relay.BUILD)
    tasks = [asyncio.create_task(work) for work in (*(each.run() for each in watched), _sweep(switchboard, clients))]
    try:
        await stop.wait()
        await _drain(settings, switchboard, clients, front, end)
    finally:
        front.close()
        back.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        switchboard.shed()
        # One turn of the loop for what was written last.
        await asyncio.sleep(0.02)
        switchboard.close()
        for connection in (*clients.connections, *internal_state.connections):
            if connection.transport is not None:
                connection.transport.close()
    log.info("reason=Stopped")


def _routes(
    source: Path | Cluster, switchboard: Switchboard, clock: Callable[[], float]
) -> WatchedFile[RouteDocument] | ClusterSource:
    if isinstance(source, Cluster):
        command = child_command(source.namespaces, source.kubeconfig)
        return ClusterSource(command, switchboard.change, clock)
    file = WatchedFile(source, read_routes, switchboard.apply, ROUTES_SECONDS, "KeptLastRoutes")
    file.look()
    return file


async def _drain(
    settings: Settings, switchboard: Switchboard, clients: relay.Clients, front: asyncio.Server, end: asyncio.Event
) -> None:
    """Not ready at once; new connections for the settle time; who waits is served or, at the end, sent away."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    switchboard.is_draining = True
    log.info(
        "reason=Draining because=told to stop; %d requests under way, waiting ones are served for %g s",
        len(switchboard.exchanges),
        settings.drain_seconds,
    )
    is_settling = True
    while not end.is_set():
        passed = loop.time() - started
        if is_settling and passed >= settings.settle_seconds:
            is_settling = False
            front.close()
        if not is_settling:
            for connection in list(clients.connections):
                connection.shutdown()
            if (
                not switchboard.exchanges
                and not clients.tasks
                and (passed >= settings.drain_seconds or _through(clients))
            ):
                return
        if passed >= settings.drain_seconds and not switchboard.is_shedding:
            switchboard.shed()
        await asyncio.sleep(0.02)


def _through(clients: relay.Clients) -> bool:
    """Whether every client has all of its answers, and none is in the middle of a request."""
    return all(connection.is_through() for connection in clients.connections)


async def _sweep(switchboard: Switchboard, clients: relay.Clients) -> None:
    turn = 0
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        switchboard.sweep()
        turn += 1
        if turn % 10 == 0:
            relay.sweep(clients.connections, SWEEP_SECONDS * 10)


def _config(served: FastAPI) -> Config:
    config = Config(served, lifespan="off", ws="none", log_config=None, access_log=False, interface="asgi3")
    config.load()
    return config


async def _listen(flag: str, address: Address, make: Callable[[], asyncio.Protocol]) -> asyncio.Server:
    try:
        return await asyncio.get_running_loop().create_server(make, address.host, address.port, backlog=_BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(
                f"{flag}: {address} is taken by another program; stop it or choose another port."
            ) from error
        raise PortTaken(f"{flag}: cannot listen on {address} ({error.strerror}).") from error
