"""The door to the API server over real HTTP: what a log may be like, and what it is when it breaks off."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from kubernetes.aio.client import Configuration

from facts import DEADLINE_SECONDS
from shoal_operator.api_faults import ApiFault, Unreachable
from shoal_operator.cluster import Cluster

LONG = "x" * 300_000


class Clockwork(asyncio.SelectorEventLoop):
    """A loop whose clock can be moved."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


class LogServer:
    """An API server that knows one log: `said` so far, in pieces; it breaks off when it is told to."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.says: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {self.status} X\r\ntransfer-encoding: chunked\r\n\r\n".encode())
        while (said := await self.says.get()) is not None:
            if not said:
                writer.write(b"0\r\n\r\n")
                break
            writer.write(b"%x\r\n%b\r\n" % (len(said), said))
            await writer.drain()
        else:
            writer.transport.abort()
        writer.close()


@asynccontextmanager
async def a_door(server: LogServer) -> AsyncIterator[Cluster]:
    listening = await asyncio.start_server(server.answer, "127.0.0.1", 0)
    found = Configuration()
    found.host = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    door = Cluster(found, may_write=lambda: False)
    try:
        async with asyncio.timeout(3600 + DEADLINE_SECONDS):
            yield door
    finally:
        await door.close()
        listening.close()
        await listening.wait_closed()


def test_a_log_is_followed_for_longer_than_any_request_and_its_lines_are_as_long_as_they_are() -> None:
    async def story() -> list[str]:
        server, loop = LogServer(), asyncio.get_running_loop()
        assert isinstance(loop, Clockwork)
        async with a_door(server) as door:
            server.says.put_nowait(b"first\nsec")
            lines = door.log("team", "qwen-0", {"follow": "true"})
            told = [await anext(lines)]
            loop.ahead += 1800
            server.says.put_nowait(b"ond\n" + LONG.encode() + b"\nlast")
            server.says.put_nowait(b"")
            return told + [line async for line in lines]

    with asyncio.Runner(loop_factory=Clockwork) as runner:
        assert runner.run(story()) == ["first", "second", LONG, "last"]


def test_a_log_that_breaks_off_is_a_fault_of_the_cluster_and_not_of_ours() -> None:
    async def story() -> None:
        server = LogServer()
        async with a_door(server) as door:
            lines = door.log("team", "qwen-0", {"follow": "true"})
            server.says.put_nowait(b"first\n")
            assert await anext(lines) == "first"
            server.says.put_nowait(None)
            with pytest.raises(Unreachable, match=r"/pods/qwen-0/log"):
                await anext(lines)

    asyncio.run(story())


def test_a_log_that_is_refused_is_told_in_the_api_servers_words() -> None:
    async def story() -> None:
        server = LogServer(status=400)
        async with a_door(server) as door:
            server.says.put_nowait(b'{"message": "container \\"engine\\" is waiting to start"}')
            server.says.put_nowait(b"")
            with pytest.raises(ApiFault, match="is waiting to start"):
                await anext(door.log("team", "qwen-0", {}))

    asyncio.run(story())
