"""A gateway's end of the load stream, in the test's own loop: it tells what the test says."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from shoal_api import load as treaty
from shoal_api.load import LoadMessage, ModelLoad


class StandinGateway:
    """One gateway that nobody asks for tokens."""

    def __init__(self) -> None:
        self.models: dict[str, ModelLoad] = {}
        self.asked: list[str] = []
        """The head of each request that came."""
        self.port = 0
        self._news = asyncio.Condition()

    async def tell(self, **models: ModelLoad) -> None:
        """The load of these models is this now; a name's `__` is the slash."""
        async with self._news:
            self.models |= {name.replace("__", "/"): load for name, load in models.items()}
            self._news.notify_all()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while not writer.is_closing():
            message = LoadMessage(version=treaty.VERSION, boot="b", models=dict(self.models))
            line = message.model_dump_json(by_alias=True).encode() + b"\n"
            writer.write(b"%x\r\n%b\r\n" % (len(line), line))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(treaty.TELL_SECONDS), self._news:
                    await self._news.wait()


@contextlib.asynccontextmanager
async def a_standin_gateway() -> AsyncIterator[StandinGateway]:
    """One that listens; its streams end with the block."""
    gateway = StandinGateway()
    streams: set[asyncio.Task[None]] = set()

    def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def stream() -> None:
            try:
                await gateway.answer(reader, writer)
            finally:
                writer.close()

        streams.add(asyncio.create_task(stream()))

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    gateway.port = server.sockets[0].getsockname()[1]
    try:
        yield gateway
    finally:
        server.close()
        for task in streams:
            task.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
