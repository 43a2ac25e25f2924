"""One bad and one good replica, and every fault of the simulator: whoever may be tried twice gets an answer.

A ledger of both replicas is kept: no request is tried twice on one replica, and none is forgotten.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from fleet import SimulatedReplica, a_fleet, a_route_to
from gateway_process import Answer, Gateway, ask, chat, nothing_is_left, one_gateway
from shoal_serving.simulator.faults import Kind

TOKENS = 8
REQUESTS = 30
TIMEOUTS: dict[Kind, dict[str, float]] = {
    Kind.ACCEPT_HANG: {"connectSeconds": 0.3},
    Kind.HANG: {"firstByteSeconds": 1.0},
    Kind.SILENT: {"firstByteSeconds": 1.0, "idleSeconds": 1.0},
}
"""Short only where the fault is known by nothing else: the good replica may be late on a busy machine."""


@dataclass(frozen=True)
class Row:
    """A fault of the bad replica; `instead`: what a request that met it gets where no second try is allowed."""

    kind: Kind
    settings: dict[str, object] = field(default_factory=dict)
    instead: str = ""

    @property
    def at_once(self) -> int:
        """More where those who meet the fault take a whole second."""
        return 10 if self.kind in (Kind.HANG, Kind.SILENT) else 6

    def __str__(self) -> str:
        return "-".join([self.kind, *(f"{name}={value}" for name, value in self.settings.items())])


REFUSED_BEFORE = [
    Row(Kind.REFUSE),
    Row(Kind.ACCEPT_CLOSE),
    Row(Kind.ACCEPT_CLOSE, {"reset": True}),
    Row(Kind.ACCEPT_HANG),
    Row(Kind.HELLO_PROOF),
    Row(Kind.HELLO_UID),
    Row(Kind.MISDIRECTED),
    Row(Kind.BUSY),
]
LOST_BEFORE = [
    Row(Kind.CLOSE),
    Row(Kind.CLOSE, {"reset": True}),
    Row(Kind.GARBAGE),
    *(Row(Kind.STATUS, {"code": code}) for code in (500, 502, 503, 504, 429)),
    Row(Kind.CUT),
    Row(Kind.CUT, {"reset": True}),
    Row(Kind.ENGINE_DEATH),
    Row(Kind.PROCESS_DEATH),
    Row(Kind.SLOW, {"factor": 2.0}),
    Row(Kind.HANG, instead="504 engine_timeout"),
    *(Row(Kind.STATUS, {"code": code}, instead=str(code)) for code in (400, 404)),
]
ROWS = {
    False: [
        *REFUSED_BEFORE,
        *LOST_BEFORE,
        *(Row(Kind.ERROR_EVENT, {"code": code}) for code in (500, 503)),
        Row(Kind.SILENT, {"inside": True}),
        Row(Kind.SILENT, instead="504 engine_timeout"),
    ],
    True: [
        *REFUSED_BEFORE,
        *LOST_BEFORE,
        *(Row(Kind.ERROR_EVENT, {"code": code}) for code in (500, 503)),
        Row(Kind.CUT, {"inside": True}),
        Row(Kind.SILENT, instead="504 engine_timeout"),
        *(Row(Kind.CUT, {"after": 3, "inside": inside}, instead="upstream_lost") for inside in (False, True)),
        Row(Kind.CUT, {"after": 3, "reset": True}, instead="upstream_lost"),
        Row(Kind.ERROR_EVENT, {"after": 3}, instead="upstream_lost"),
        Row(Kind.SILENT, {"after": 3}, instead="upstream_lost"),
        Row(Kind.ENGINE_DEATH, {"after": 3}, instead="upstream_lost"),
        Row(Kind.PROCESS_DEATH, {"after": 3}, instead="upstream_lost"),
    ],
}


gateway = one_gateway()


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[SimulatedReplica]]:
    with a_fleet(tmp_path_factory.mktemp("fleet"), "bad", "good", **{"gap-seconds": 0.001}) as running:
        yield running


def test_the_table_has_every_fault_that_the_simulator_knows() -> None:
    for stream in (False, True):
        assert {row.kind for row in ROWS[stream]} == set(Kind)


@pytest.mark.parametrize(
    ("stream", "row"), [pytest.param(stream, row, id=f"{stream}-{row}") for stream in ROWS for row in ROWS[stream]]
)
def test_beside_a_good_replica_a_bad_one_is_not_noticed(
    gateway: Gateway, replicas: list[SimulatedReplica], stream: bool, row: Row
) -> None:
    bad, good = replicas
    for replica in replicas:
        replica.heal()
    gateway.put()  # nothing is kept of the row before
    bad.order(kind=row.kind, **row.settings)
    gateway.put(a_route_to(bad, good, timeouts=TIMEOUTS.get(row.kind, {})))

    before = _failed_attempts(gateway)

    answers = asyncio.run(_ask_all(gateway, f"{stream}-{row}", row.at_once, stream))

    told = Counter(_told(answer, stream) for answer in answers.values())
    assert set(told) <= {"whole", row.instead or "whole"}, told
    assert len(answers) == REQUESTS
    assert told[row.instead] or not row.instead, "nobody met the fault"
    assert _failed_attempts(gateway) > before or row.kind is Kind.SLOW, "nobody met the fault"
    _check_ledger(answers, bad, good, stream)
    asyncio.run(nothing_is_left(gateway))


def _failed_attempts(gateway: Gateway) -> float:
    tries = gateway.metric("shoal_attempts_total", model="default/m")
    return tries - gateway.metric("shoal_attempts_total", model="default/m", outcome="complete")


def _check_ledger(answers: dict[str, Answer], bad: SimulatedReplica, good: SimulatedReplica, stream: bool) -> None:
    at_bad, at_good = bad.log(), good.log()
    for entries in (at_bad, at_good):
        assert not (twice := [name for name, times in Counter(_ids(entries)).items() if times > 1]), twice
    served = {entry["requestId"] for entry in (*at_bad, *at_good) if entry["outcome"] == "finished"}
    whole = {name for name, answer in answers.items() if _told(answer, stream) == "whole"}
    assert whole <= served
    assert not [entry for entry in at_good if entry["outcome"] != "finished"], "the good one did what nobody waits for"


def _ids(entries: list[dict[str, Any]]) -> list[str]:
    return [entry["requestId"] for entry in entries]


async def _ask_all(gateway: Gateway, name: str, at_once: int, stream: bool) -> dict[str, Answer]:
    """So many at a time. A seed keeps them out of any continuation."""
    body = chat(stream, max_tokens=TOKENS, ignore_eos=True, seed=1)
    names = [f"{name}-{number}" for number in range(REQUESTS)]
    found: dict[str, Answer] = {}
    for start in range(0, REQUESTS, at_once):
        some = names[start : start + at_once]
        answers = await asyncio.gather(*(ask(gateway, body, headers=f"x-request-id: {one}\r\n") for one in some))
        found |= dict(zip(some, answers, strict=True))
    return found


def _told(answer: Answer, stream: bool) -> str:
    """What a client got: `whole`, or the status and code of its error."""
    if answer.status != 200:
        code = answer.error["code"]
        return f"{answer.status} {code}" if answer.status == 504 else str(answer.status)
    assert answer.whole
    if not stream:
        return "whole" if answer.json["usage"]["completion_tokens"] == TOKENS else "short"
    last = answer.events[-1]
    if last != "[DONE]":
        return str(json.loads(last)["error"]["code"])
    chunks = [json.loads(event) for event in answer.events[:-1]]
    texts = [choice["delta"].get("content") for chunk in chunks for choice in chunk["choices"]]
    return "whole" if sum(bool(text) for text in texts) == TOKENS else "short"
