"""The stream client: what it takes for an event, an end and an error, and that a slow server cannot hide."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import pytest

from sse_client import Client
from sse_connection import Connection, Exchange
from sse_sheet import Order, Sheet, distrust, merged, summary

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def stream(*events: bytes) -> bytes:
    return HEAD + b"".join(chunk(b"data: " + event + b"\n\n") for event in events) + b"0\r\n\r\n"


def plain(status: int, body: bytes = b"{}") -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        status,
        len(body),
        body,
    )


@dataclass
class Ledger:
    """Whom a connection reports to."""

    request: bytes = b"POST"
    idle: list[Connection] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    events: int = 0

    def completed(self, exchange: Exchange, now: float, streams: bool) -> None:
        assert exchange.first <= now
        self.events += len(exchange.seen)
        self.ends.append("stream" if streams else "plain")

    def failed(self, kind: str) -> None:
        self.ends.append(kind)


class Wire(asyncio.Transport):
    """Takes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True


def carried(*pieces: bytes, lost: Exception | bool | None = False) -> Ledger:
    ledger = Ledger()
    connection = Connection(ledger)
    connection.connection_made(Wire())
    connection.carry(Exchange(time.monotonic()))
    for piece in pieces:
        connection.data_received(piece)
    if not isinstance(lost, bool):
        connection.connection_lost(lost)
    return ledger


WHOLE = stream(b'{"a": 1}', b'{"b": 2}', b"[DONE]")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 40, 10_000])
def test_events_are_counted_wherever_the_bytes_are_cut(size: int) -> None:
    pieces = [WHOLE[at : at + size] for at in range(0, len(WHOLE), size)]

    ledger = carried(*pieces)

    assert (ledger.ends, ledger.events, len(ledger.idle)) == (["stream"], 3, 1)


@pytest.mark.parametrize(
    ("pieces", "lost", "end"),
    [
        ([stream(b'{"a": 1}')], False, "no [DONE]"),
        ([stream(b'{"a": 1}', b'"data: [DONE]"')], False, "no [DONE]"),
        ([plain(503)], False, "status 503"),
        ([plain(200)], False, "plain"),
        ([WHOLE[:150]], None, "closed"),
        ([WHOLE[:150]], ConnectionResetError(), "reset"),
        ([b"\x16\x03\x01 no http\r\n\r\n"], False, "not http"),
    ],
)
def test_every_way_to_end_has_its_class(pieces: list[bytes], lost: Exception | bool | None, end: str) -> None:
    assert carried(*pieces, lost=lost).ends == [end]


def test_an_idle_connection_that_is_lost_is_no_error_and_not_used_again() -> None:
    ledger = carried(WHOLE, lost=None)

    assert (ledger.ends, ledger.idle) == (["stream"], [])


def test_a_connection_that_the_server_wants_closed_is_not_used_again() -> None:
    ledger = carried(plain(200).replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))

    assert (ledger.ends, ledger.idle) == (["plain"], [])


class Server(asyncio.Protocol):
    """Answers each request with the same bytes, not before a moment."""

    def __init__(
        self,
        answer: bytes,
        not_before: Callable[[], float],
        closings: "asyncio.Queue[None]",
        open_ones: set[asyncio.WriteTransport],
    ) -> None:
        self._answer = answer
        self._closings = closings
        self._not_before = not_before
        self._open_ones = open_ones

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        self._open_ones.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open_ones.discard(self._transport)
        self._closings.put_nowait(None)

    def data_received(self, data: bytes) -> None:
        wait = max(0.0, self._not_before() - time.monotonic())
        asyncio.get_running_loop().call_later(wait, self._transport.write, self._answer)


def run(answer: bytes, order: Order, stalls_seconds: float = 0.0) -> Sheet:
    async def both() -> Sheet:
        begin = time.monotonic() + 0.1
        loop = asyncio.get_running_loop()
        closings: asyncio.Queue[None] = asyncio.Queue()
        open_ones: set[asyncio.WriteTransport] = set()
        accept = partial(Server, answer, lambda: begin + stalls_seconds, closings, open_ones)
        server = await loop.create_server(accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            client = Client(replace(order, url=f"http://127.0.0.1:{port}/v1/chat/completions", begin=begin))
            sheet = await client.run()
            async with asyncio.timeout(60):  # it leaves no connection behind
                for _ in range(client.opened):
                    await closings.get()
            return sheet
        finally:
            server.close()
            for transport in list(open_ones):  # accepted late, on a busy machine
                transport.abort()
            await server.wait_closed()
            await asyncio.sleep(0)

    return asyncio.run(both())


ORDER = Order(url="", body="{}", rate=50, seconds=0.2, kind="fixed", connections=2)


def test_a_stalled_server_delays_every_request_that_was_due_meanwhile() -> None:
    sheet = run(WHOLE, ORDER, stalls_seconds=0.5)

    assert (sheet.intended, sheet.complete, sheet.errors) == (10, 10, {})
    # The first was due at 0 and the last at 0.18 s, whatever had become of the others; nothing came before 0.5 s.
    assert min(sheet.whole) >= 300_000
    assert max(sheet.whole) >= 490_000


def test_streams_have_gaps_between_their_tokens_only() -> None:
    role, tokens, end = b'{"role": 1}', [b'{"token": 1}'] * 4, b"[DONE]"

    sheet = run(stream(role, *tokens, end), ORDER)

    assert (sheet.events, len(sheet.first), len(sheet.gap)) == (60, 10, 30)


def test_a_request_without_an_answer_is_a_timeout_and_the_run_ends() -> None:
    sheet = run(b"", replace(ORDER, patience_seconds=0.1))

    assert (sheet.complete, sheet.errors) == (0, {"timeout": 10})


def test_requests_to_nobody_are_refused() -> None:
    async def alone() -> Sheet:
        return await Client(replace(ORDER, url="http://127.0.0.1:1/", begin=time.monotonic())).run()

    assert asyncio.run(alone()).errors == {"refused": 10}


def test_sheets_are_added_up_and_the_busiest_process_speaks_for_the_client() -> None:
    one = Sheet(intended=2, complete=1, events=3, first=[1], errors={"reset": 1}, cpu_seconds=0.5, lasted_seconds=2)
    other = Sheet(intended=1, complete=1, events=3, first=[2], errors={}, cpu_seconds=0.7, lasted_seconds=1)

    together = merged([one, other])

    assert (together.intended, together.complete, together.events, together.first) == (3, 2, 6, [1, 2])
    assert (together.errors, together.cpu_seconds, together.lasted_seconds) == ({"reset": 1}, 0.7, 2)


@pytest.mark.parametrize(
    ("sheet", "reason"),
    [
        (Sheet(), "nothing was sent"),
        (Sheet(late=[100] * 100, cpu_seconds=0.5, lasted_seconds=1), ""),
        (Sheet(late=[100] * 97 + [9_000] * 3, cpu_seconds=0.5, lasted_seconds=1), "up to 9.0 ms late"),
        (Sheet(late=[100], cpu_seconds=0.95, lasted_seconds=1), "busy 95% of the time"),
    ],
)
def test_a_client_that_was_late_or_busy_is_not_believed(sheet: Sheet, reason: str) -> None:
    assert reason in distrust(sheet)
    assert bool(distrust(sheet)) == bool(reason)


def test_a_summary_names_every_error() -> None:
    text = summary(Sheet(intended=3, complete=1, first=[51_000], late=[10], errors={"reset": 2}, lasted_seconds=1))

    assert "1 of 3 complete" in text
    assert "error  reset: 2" in text
    assert "first  p50    51.00 ms" in text
