"""A hundred thousand requests, a tenth of which nobody waits for: the gateway's memory stands still."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from facts import DEADLINE_SECONDS, soon
from fleet import a_fleet, a_route_to
from gateway_process import Gateway, a_gateway, chat

pytestmark = pytest.mark.nightly

WARM, ALL = 20_000, 100_000
CONNECTIONS = 32
GROWS_LESS_THAN_MB = 5.0


def requests() -> Iterator[tuple[bytes, bool]]:
    """Each with whether the client leaves: every second one a stream, every tenth left, early or in the answer."""
    for number in range(10_000_000):
        stream = number % 2 == 0
        content = json.dumps(chat(stream, max_tokens=20, ignore_eos=True)).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n"
        leaves = number % 20 in (3, 10)
        fault = "x-simulate: silent after=3\r\n" if leaves else ""
        yield f"{head}content-type: application/json\r\n{fault}\r\n".encode() + content, leaves


class Asker:
    """One client: asks on a kept connection, and leaves now and then."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes, leaves: bool) -> None:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._gateway.port)
        self._writer.write(request)
        if leaves:
            if b'"stream": true' in request:
                await self._reader.readuntil(b"\r\n\r\n")
            else:
                await asyncio.sleep(0.02)
            self.leave()
            return
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200"), head
        if b"content-length: " in head:
            await self._reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
        else:
            await self._reader.readuntil(b"\r\n0\r\n\r\n")

    def leave(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None


def resident_mb(gateway: Gateway) -> float:
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024 / 1e6


def test_memory_does_not_grow_between_20000_and_100000_requests(tmp_path: Path) -> None:
    asked = 0

    async def until(count: int) -> None:
        """Ask until so many have been asked in all, and all is at rest again."""
        waiting = requests()

        async def one() -> None:
            nonlocal asked
            asker = Asker(gateway)
            while asked < count:
                asked += 1
                async with asyncio.timeout(DEADLINE_SECONDS):
                    await asker.ask(*next(waiting))
            asker.leave()

        await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
        for gauge in ("shoal_requests_in_flight", "shoal_open_connections", "shoal_upstream_idle_connections"):
            await soon(lambda gauge=gauge: gateway.metric(gauge) == 0)

    with a_gateway(tmp_path) as gateway, a_fleet(tmp_path, "a", "b", **{"header-faults": "true"}) as fleet:
        gateway.put(a_route_to(*fleet))
        readings = []
        for count in (WARM, ALL):
            asyncio.run(until(count))
            readings.append(resident_mb(gateway))
        cancelled = gateway.metric("shoal_requests_total", outcome="cancelled")
        print(f"\nmemory at {WARM}: {readings[0]:.1f} MB, at {ALL}: {readings[1]:.1f} MB; {cancelled:.0f} cancelled")

        assert gateway.metric("shoal_requests_total") == ALL
        assert cancelled == ALL / 10
        assert readings[1] - readings[0] < GROWS_LESS_THAN_MB
