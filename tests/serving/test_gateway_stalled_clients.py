"""A client that stays and takes nothing: its connection, and what is held for it, end; a slow one is left alone."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator
from random import Random
from typing import cast

from fastapi import FastAPI
from uvicorn.config import Config

from facts import soon
from gateway_process import chat
from shoal_serving.gateway import relay, upstream
from shoal_serving.gateway.access_log import AccessLog
from shoal_serving.gateway.switchboard import Switchboard
from shoal_serving.gateway.waiting_room import ByteBudget

SWEEP_SECONDS = relay.QUIET_SECONDS / 3


class House:
    """The gateway's door to clients in the test's own loop, without a model behind it."""

    def __init__(self) -> None:
        self.clients = relay.Clients()
        log = AccessLog(lambda: "", None)
        self.budget = ByteBudget(1 << 30)
        self.switchboard = Switchboard(
            upstream.maker(bytes(32)), self.budget, 1 << 20, log, time.monotonic, Random(1), lambda *_: None
        )
        self._config = Config(FastAPI(), lifespan="off", log_config=None)

    def meet(self) -> asyncio.Protocol:
        return cast("asyncio.Protocol", relay.Relay(self.switchboard, self._config, self.clients))

    def sweep(self) -> None:
        relay.sweep(self.clients.connections, SWEEP_SECONDS)


@contextlib.asynccontextmanager
async def a_stalled_client(house: House) -> AsyncIterator[socket.socket]:
    """It has sent more requests than it takes answers of, and whole bodies wait behind them."""
    loop = asyncio.get_running_loop()
    own = socket.create_server(("127.0.0.1", 0))
    own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    server = await loop.create_server(house.meet, sock=own)
    content = json.dumps(chat()).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n"
    request = f"{head}content-type: application/json\r\n\r\n".encode() + content
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, server.sockets[0].getsockname())
        sending = asyncio.ensure_future(loop.sock_sendall(client, request * 3000))
        try:
            await soon(lambda: house.budget.held > len(content))
            yield client
        finally:
            sending.cancel()
            server.close()
            await asyncio.gather(sending, return_exceptions=True)


def test_what_is_held_for_a_client_that_takes_nothing_ends_with_its_connection() -> None:
    async def story() -> None:
        house = House()
        async with a_stalled_client(house):
            for _ in range(3):
                house.sweep()
                assert len(house.clients.connections) == 1
            for _ in range(2):
                house.sweep()
            await soon(lambda: not house.clients.connections and house.budget.held == 0)

    asyncio.run(story())


def test_a_client_that_is_only_slow_is_left_alone() -> None:
    async def story() -> None:
        house, loop = House(), asyncio.get_running_loop()
        async with a_stalled_client(house) as client:
            (connection,) = house.clients.connections
            for _ in range(12):
                before = connection.transport.get_write_buffer_size()
                while connection.transport.get_write_buffer_size() == before:
                    assert await loop.sock_recv(client, 4096)
                house.sweep()
            assert house.clients.connections == {connection}

    asyncio.run(story())
