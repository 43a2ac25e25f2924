"""An open-loop client for streams (and plain answers): requests begin by a schedule, whatever the answers do, and every
latency counts from the intended beginning, so that a stalled server cannot hide behind requests that were never sent.

`python benchmarks/sse_client.py http://127.0.0.1:8000/v1/chat/completions --body request.json --rate 100 --seconds 5`
"""

import argparse
import asyncio
import gc
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import uvloop

import arrivals
import placement
from sse_connection import Connection, Exchange
from sse_sheet import Order, Sheet, merged, summary

_HEAD_START_SECONDS = 0.6
"""Processes load their code and open connections before the schedule begins."""
_FINEST_WAIT_SECONDS = 0.0002
_MOST_CONNECTIONS = 10_000


class Client:
    """What one process does with its part of the schedule."""

    def __init__(self, order: Order) -> None:
        self._order = order
        address = urlsplit(order.url)
        self._host, self._port = address.hostname or "", address.port or 80
        body = order.body.encode()
        self.request = (
            f"POST {address.path} HTTP/1.1\r\nhost: {address.netloc}\r\ncontent-type: application/json\r\n"
            f"accept: */*\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode() + body
        self.idle: list[Connection] = []
        self._connections: list[Connection] = []
        self._sheet = Sheet()
        self._errors: Counter[str] = Counter()
        self._ended = 0
        self._last_end = 0.0
        self._opening: set[asyncio.Task[None]] = set()
        self._all_ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> Sheet:
        order = self._order
        times = arrivals.schedule(order.kind, order.rate, order.seconds, order.seed)
        times = arrivals.part(times, order.process, order.processes)
        self._sheet.intended = len(times)
        if not times:
            return self._sheet
        await self._open_ahead()
        began_cpu = time.process_time()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._fault)
        Thread(target=self._pace, args=(loop, times), daemon=True).start()
        until_end = order.begin + order.seconds + order.patience_seconds - time.monotonic()
        try:
            await asyncio.wait_for(self._all_ended, until_end)
        except TimeoutError:
            self._errors["timeout"] += len(times) - self._ended
        for connection in self._connections:
            connection.abort()
        await asyncio.sleep(0)
        self._sheet.errors = dict(self._errors)
        self._sheet.cpu_seconds = time.process_time() - began_cpu
        self._sheet.lasted_seconds = (self._last_end or time.monotonic()) - order.begin
        return self._sheet

    def _fault(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A fault of this client ends the run: what it would report is not the server's doing."""
        if not self._all_ended.done():
            self._all_ended.set_exception(context.get("exception") or RuntimeError(context["message"]))

    @property
    def opened(self) -> int:
        """How many connections it took."""
        return len(self._connections)

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(self), self._host, self._port)
        self._connections.append(connection)
        return connection

    async def _open_ahead(self) -> None:
        try:
            for _ in range(min(self._order.connections, _MOST_CONNECTIONS)):
                self.idle.append(await self._connect())
        except OSError:
            pass  # each request tries for itself and is counted

    def _pace(self, loop: asyncio.AbstractEventLoop, times: Sequence[float]) -> None:
        """Wake the loop when requests are due. A thread, since the loop's own timers are a millisecond coarse."""
        at, begin = 0, self._order.begin
        while at < len(times):
            time.sleep(max(_FINEST_WAIT_SECONDS, begin + times[at] - time.monotonic()))
            due, now = at, time.monotonic() - begin
            while due < len(times) and times[due] <= now:
                due += 1
            if due > at:
                loop.call_soon_threadsafe(self._send, times[at:due])
                at = due

    def _send(self, times: Sequence[float]) -> None:
        for at in times:
            exchange = Exchange(self._order.begin + at, time.monotonic())
            if self.idle:
                self.idle.pop().carry(exchange)
            else:
                task = asyncio.get_running_loop().create_task(self._connect_and_send(exchange))
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)

    async def _connect_and_send(self, exchange: Exchange) -> None:
        try:
            connection = await self._connect()
        except OSError:
            self.failed("refused")
            return
        connection.carry(exchange)

    def completed(self, exchange: Exchange, now: float, streams: bool) -> None:
        sheet, seen = self._sheet, exchange.seen
        sheet.complete += 1
        sheet.events += len(seen)
        sheet.first.append(_us(exchange.first - exchange.intended))
        sheet.whole.append(_us(now - exchange.intended))
        sheet.late.append(_us(exchange.taken_up - exchange.intended))
        if streams:
            # The event that names the role comes with the first token, and [DONE] with the last: no gaps of tokens.
            sheet.gap += [_us(after - before) for before, after in pairwise(seen[1:-1])]
        self._end(now)

    def failed(self, kind: str) -> None:
        self._errors[kind] += 1
        self._end(time.monotonic())

    def _end(self, now: float) -> None:
        self._ended += 1
        self._last_end = now
        if self._ended == self._sheet.intended and not self._all_ended.done():
            self._all_ended.set_result(None)


def _us(seconds: float) -> int:
    return round(seconds * 1e6)


class Run:
    """A load that goes on in processes of its own."""

    def __init__(self, order: Order, cores: Sequence[int]) -> None:
        begin = time.monotonic() + _HEAD_START_SECONDS
        parts = [
            Order(
                **{
                    **asdict(order),
                    "begin": begin,
                    "process": process,
                    "processes": len(cores),
                    "connections": -(-order.connections // len(cores)),
                }
            )
            for process in range(len(cores))
        ]
        self._processes = [
            subprocess.Popen(
                placement.pinned([sys.executable, __file__, "--worker"], core),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for core in cores
        ]
        for process, part in zip(self._processes, parts, strict=True):
            assert process.stdin is not None  # noqa: S101  (PIPE above)
            process.stdin.write(json.dumps(asdict(part)))
            process.stdin.close()
            process.stdin = None

    def result(self) -> Sheet:
        sheets = []
        for process in self._processes:
            written, _ = process.communicate()
            if process.returncode:
                raise RuntimeError(f"a process of the stream client ended with status {process.returncode}")
            sheets.append(Sheet(**json.loads(written)))
        return merged(sheets)


async def _work(order: Order) -> Sheet:
    return await Client(order).run()


def main() -> int:
    if sys.argv[1:] == ["--worker"]:
        gc.disable()  # a run is short, and a collection would look like a slow server
        json.dump(asdict(uvloop.run(_work(Order(**json.load(sys.stdin))))), sys.stdout)
        return 0
    parser = argparse.ArgumentParser(description="Open-loop load of streams, safe against coordinated omission.")
    parser.add_argument("url")
    parser.add_argument("--body", type=Path, required=True, help="file with the JSON body to post")
    parser.add_argument("--rate", type=float, required=True, help="requests a second")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--arrivals", choices=["poisson", "fixed"], default="poisson")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--connections", type=int, default=16, help="opened beforehand")
    parser.add_argument("--cores", default="0", help="one process on each, as in 1,2,3")
    flags = parser.parse_args()
    order = Order(
        url=flags.url,
        body=flags.body.read_text(),
        rate=flags.rate,
        seconds=flags.seconds,
        kind=flags.arrivals,
        seed=flags.seed,
        connections=flags.connections,
    )
    sheet = Run(order, [int(core) for core in flags.cores.split(",")]).result()
    print(summary(sheet))
    return 0 if sheet.complete == sheet.intended else 1


if __name__ == "__main__":
    sys.exit(main())
