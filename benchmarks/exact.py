"""What Exact continuation costs the gateway beside Off, part by part: CPU time of the compiled relay without sockets.

One process feeds a client connection and a replica connection of the relay by hand, so nothing but the gateway's own
code is measured; kernel, uvloop and cold caches come on top (benchmarks/cpu.py). The least of many turns counts.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, cast

from uvicorn.config import Config

import installing
import page
import scenarios
from installing import Ours
from peers import MODEL
from shoal_api.routes import Endpoint, ModelRoute, RouteDocument
from shoal_api.routing import Continuation, Queue, Routing
from shoal_serving.gateway import continuation, relay, upstream
from shoal_serving.gateway.access_log import AccessLog
from shoal_serving.gateway.switchboard import Switchboard
from shoal_serving.gateway.transcript import CHAT, Transcript, Wish
from shoal_serving.gateway.waiting_room import ByteBudget
from shoal_serving.simulator import chat, planning
from shoal_serving.simulator.knobs import Knobs
from shoal_serving.simulator.model import Model

_TURNS = 120
_SECOND = 1_790_000_000
_ID = "chatcmpl-0123456789abcdef0123456789abcdef"
_BODY = scenarios.body(streams=True)
_FIELDS: dict[str, Any] = json.loads(_BODY)
_HEAD = "POST {} HTTP/1.1\r\nhost: 127.0.0.1:8000\r\naccept: */*\r\ncontent-type: application/json\r\n"
_REQUEST = f"{_HEAD.format(scenarios.PATH)}content-length: {len(_BODY)}\r\n\r\n{_BODY}".encode()
_BURST, _ALONE = 16, 126
"""Tokens of the two streams; both have two events more."""


class _Transport:
    """As much of a transport as the relay asks for; what is written is gone."""

    def write(self, data: bytes) -> None:
        """Gone."""

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int) -> None:
        """It is never full."""

    def get_extra_info(self, name: str) -> object:
        return self if name == "socket" else ("127.0.0.1", 1)

    def setsockopt(self, *options: int) -> None:
        """It has none."""


class _Gateway:
    """One relay with one client and one idle connection to a replica."""

    def __init__(self, choice: Continuation) -> None:
        made: list[upstream.LiveEndpoint] = []
        maker = upstream.maker(b"k" * 32)

        def make(route: ModelRoute, facts: Endpoint) -> upstream.LiveEndpoint:
            made.append(maker(route, facts))
            return made[-1]

        budget, log = ByteBudget(1 << 30), AccessLog(str, None)
        drawn = Random(1)  # noqa: S311
        switchboard = Switchboard(make, budget, 1 << 25, log, time.monotonic, drawn, lambda *_: None)
        switchboard.apply(RouteDocument(models=[_route(choice)]))
        transport = cast("Any", _Transport())
        self._replica = upstream.Connection(made[0])
        self._replica.connection_made(transport)
        self._replica.keep = True
        made[0].idle.append(self._replica)
        self._client = relay.Relay(switchboard, Config("none"), relay.Clients())
        self._client.connection_made(transport)

    def stream(self, reads: list[bytes]) -> None:
        """One request, and its answer in these reads."""
        self._client.data_received(_REQUEST)
        for read in reads:
            self._replica.data_received(read)


def _route(choice: Continuation) -> ModelRoute:
    return ModelRoute(
        namespace="default",
        name=MODEL,
        uid="uid",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        served_name=MODEL,
        names=[MODEL],
        revision="1",
        routing=Routing(continuation=choice),
        queue=Queue(max_in_flight_per_replica=1_000, max_waiting=1_000),
        endpoints=[Endpoint(replica="replica", uid="uid", host="127.0.0.1", port=1, revision="1")],
    )


def _answer(tokens: int, *, ids: bool) -> tuple[list[bytes], bytes]:
    """An engine's answer as reads of one event each, and its events alone."""
    plan = chat.plan(_FIELDS | {"return_token_ids": ids}, Model(MODEL, MODEL, Knobs(answer_tokens=tokens)))
    events = [event for step in plan.events(_ID, _SECOND) for event in step]
    head = planning.stream_head(_SECOND)
    return [head, *map(planning.chunk, events[:-1]), planning.chunk(events[-1]) + planning.LAST_CHUNK], b"".join(events)


def _begin() -> None:
    continuation.begin(CHAT, _FIELDS, _BODY.encode(), MODEL)
    continuation.asking_for_ids(_BODY.encode())


def measure() -> dict[str, float]:
    """Microseconds, by what was done."""
    off, exact = _Gateway(Continuation.OFF), _Gateway(Continuation.EXACT)
    (plain, _), (with_ids, events) = _answer(_BURST, ids=False), _answer(_BURST, ids=True)
    plain_read, read = [b"".join(plain)], [b"".join(with_ids)]
    alone, alone_with_ids = _answer(_ALONE, ids=False)[0], _answer(_ALONE, ids=True)[0]
    wish = Wish.of(CHAT, _FIELDS)
    work: dict[str, Callable[[], object]] = {
        "burst, Off": lambda: off.stream(plain_read),
        "burst, Off, ids on the wire": lambda: off.stream(read),
        "burst, Exact": lambda: exact.stream(read),
        "look at the request": _begin,
        "take ids out": lambda: Transcript(wish).take(events),
        "alone, Off": lambda: off.stream(alone),
        "alone, Exact": lambda: exact.stream(alone_with_ids),
    }
    least = dict.fromkeys(work, float("inf"))
    for _ in range(_TURNS):
        for name, do in work.items():
            times = 20 if name.startswith("alone") else 100
            began = time.perf_counter()
            for _ in range(times):
                do()
            least[name] = min(least[name], (time.perf_counter() - began) / times * 1e6)
    return least


def report(least: dict[str, float]) -> str:
    """What a burst costs with Exact, and of what that consists; and an event that comes alone."""
    off, exact = least["burst, Off"], least["burst, Exact"]
    wire = least["burst, Off, ids on the wire"] - off
    begin, take = least["look at the request"], least["take ids out"]
    events = _ALONE + 2
    alone_off, alone_exact = least["alone, Off"] / events, least["alone, Exact"] / events
    rows = [
        ["a stream, 18 events in one read", f"{off:.2f}", f"{exact:.2f}", f"{exact - off:.2f}"],
        ["– look at the request, ask for ids", "", "", f"{begin:.2f}"],
        ["– ids on the wire", "", "", f"{wire:.2f}"],
        ["– take them out, keep them", "", "", f"{take:.2f}"],
        ["– the rest: calls, counts", "", "", f"{exact - off - begin - wire - take:.2f}"],
        [
            f"an event alone, of {events} of a stream",
            f"{alone_off:.2f}",
            f"{alone_exact:.2f}",
            f"{alone_exact - alone_off:.2f}",
        ],
    ]
    return page.table(["CPU time in the relay (µs)", "Off", "Exact", "more"], rows)


def main(words: Sequence[str]) -> int:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args(words)
    if relay.BUILD != "compiled":
        program = installing.ours(Ours(Path(__file__).resolve().parents[1])).program
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return subprocess.run([str(program), __file__], env=env).returncode
    print(report(measure()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
