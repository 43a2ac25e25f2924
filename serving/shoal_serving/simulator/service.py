"""Decide what happens to each request: refused, gone wrong on command, or answered by the engine."""

import asyncio
import re
import time
from collections.abc import Callable
from json.encoder import encode_basestring
from random import getrandbits
from typing import Any

from shoal_api import proof
from shoal_serving.replica import resuming
from shoal_serving.simulator import (
    chat,
    checking,
    completions,
    messages,
    metrics,
    other_apis,
    planning,
    pooling_apis,
    realtime,
    responses,
)
from shoal_serving.simulator.connection import Connection, Headers
from shoal_serving.simulator.engine import Engine, Run
from shoal_serving.simulator.exchange import AT_ONCE, Exchange
from shoal_serving.simulator.faults import BadFault, Fault, FaultBook, Kind, read_header
from shoal_serving.simulator.faulty_exchange import FaultyExchange, happens_while_answering
from shoal_serving.simulator.gatekeeping import REFUSALS, Gatekeeper, Reply
from shoal_serving.simulator.journal import Journal
from shoal_serving.simulator.knobs import Knobs
from shoal_serving.simulator.model import VERSION, Model
from shoal_serving.simulator.planning import Plan
from shoal_serving.simulator.tokenizing import from_ids
from shoal_serving.simulator.vllm_errors import Refused, Surface, by_status, compact, not_allowed, not_found, wrong_type

Planner = Callable[[checking.Body, Model], Plan]
Answer = Callable[[checking.Body, Model], dict[str, Any]]

_WRITES: dict[bytes, Planner] = {
    b"/v1/chat/completions": chat.plan,
    b"/v1/completions": completions.plan,
    b"/v1/responses": responses.plan,
    b"/v1/messages": messages.plan,
}
_COMPLETES = resuming.PATH.encode()
_CONTINUE = proof.CONTINUE_HEADER.encode()
_EMBEDS: dict[bytes, Planner] = {
    b"/v1/embeddings": other_apis.embeddings,
    b"/pooling": pooling_apis.pooling,
    b"/classify": pooling_apis.classify,
    b"/score": pooling_apis.score,
    b"/v1/score": pooling_apis.score,
    b"/rerank": pooling_apis.rerank,
    b"/v1/rerank": pooling_apis.rerank,
    b"/v2/rerank": pooling_apis.rerank,
}
_TRANSCRIBES = b"/v1/audio/transcriptions"
_REALTIME = b"/v1/realtime"
_ANSWERS: dict[bytes, Answer] = {
    b"/tokenize": other_apis.tokenize,
    b"/detokenize": other_apis.detokenize,
    b"/v1/messages/count_tokens": messages.count_tokens,
}
_LOOKS = frozenset({b"/v1/models", b"/version", b"/load", b"/ping"})
_JSON = b"application/json"
_CONTROL = b"/simulator/"
_METRICS = b"/metrics"

_MOST_PLANS = 2048
_LONGEST_KEPT_BODY = 16_384
_PLAIN_ID = re.compile(rb'[^"\\\x00-\x1f\x7f-\xff]+')


class Service:
    """Everything behind the connections of one simulated replica."""

    def __init__(
        self, model: Model, gatekeeper: Gatekeeper, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]
    ) -> None:
        self.model = model
        self.gatekeeper = gatekeeper
        self.engine = Engine(model.knobs, loop, clock)
        self.faults = FaultBook()
        self.journal = Journal(model.knobs.log_size)
        self.connections: set[Connection] = set()
        self.replica = ""
        self.control: Callable[[bytes, bytes, bytes, bytes], Reply] | None = None
        """Answers the control paths: method, path, query, body."""
        self.on_death: Callable[[], None] = lambda: None
        self._plans: dict[tuple[bytes, bytes], Plan] = {}
        self._planners = _EMBEDS if model.knobs.embeds else _WRITES

    def turn(self, knobs: Knobs) -> None:
        """The knobs from now on."""
        self.model = Model(self.model.served, self.model.root, knobs)
        self._planners = _EMBEDS if knobs.embeds else _WRITES
        self._plans.clear()
        self.engine.turn(knobs)

    def connected(self, connection: Connection) -> Fault | None:
        self.connections.add(connection)
        return self.faults.of_connection() if self.faults.on_connections else None

    def disconnected(self, connection: Connection) -> None:
        self.connections.discard(connection)

    def receive(self, connection: Connection, method: bytes, url: bytes, headers: Headers, body: bytes) -> None:
        path, _, query = url.partition(b"?")
        if (path in self._planners or path == _TRANSCRIBES) and method == b"POST":
            refusal = self.gatekeeper.refusal(connection, headers)
            if refusal is None:
                self._work(connection, path, headers, body)
            else:
                self._reply(connection, refusal)
            return
        if path == _REALTIME and method == b"GET" and headers.get(b"upgrade", b"").lower() == b"websocket":
            self._open_session(connection, headers)
            return
        fault = self._fault(path, headers, is_work=False)
        if fault is not None and self._goes_wrong_at_once(connection, fault, "openai"):
            return
        self._reply(connection, self._look(connection, method, path, query, headers, body))

    def _open_session(self, connection: Connection, headers: Headers) -> None:
        refusal = self.gatekeeper.refusal(connection, headers)
        if refusal is not None:
            self._reply(connection, refusal)
            return
        fault = self._fault(_REALTIME, headers, is_work=True)
        if fault is not None and self._goes_wrong_at_once(connection, fault, "openai"):
            return
        entry = self.journal.open(time.time(), _REALTIME, headers.get(b"x-request-id", b"-"))
        entry.fault = fault.kind if fault is not None else ""
        self.gatekeeper.entered()
        session: realtime.Session = connection.become(
            lambda transport: realtime.Session(transport, self.model, entry, self.gatekeeper.left, fault)
        )
        session.begin(headers.get(b"sec-websocket-key", b""))

    def _work(self, connection: Connection, path: bytes, headers: Headers, body: bytes) -> None:
        now = time.time()
        fault = None
        if self.faults.on_requests or (self.model.knobs.header_faults and b"x-simulate" in headers):
            fault = self._fault(path, headers, is_work=True)
        elif _CONTINUE not in headers and self._answered_at_once(connection, path, headers, body, now):
            return
        surface: Surface = "anthropic" if path == b"/v1/messages" else "openai"
        given_id = headers.get(b"x-request-id") or b"%016x" % getrandbits(64)
        second = int(now)
        entry = self.journal.open(now, path, given_id)
        if fault is not None:
            entry.fault = fault.kind
            if fault.kind is Kind.HANG:
                self._begin(connection, Plan(), given_id, second, entry, None)
                return
            if self._goes_wrong_at_once(connection, fault, surface):
                entry.outcome, entry.ended_at = "failed", time.time()
                return
        try:
            plan = self._plan(path, headers, body)
            if self.engine.dead:
                raise by_status(500, surface)
            if not self.engine.has_room(plan):
                if plan.streams and self.model.knobs.refuse_in_stream:
                    self._begin(connection, plan, given_id, second, entry, None).send_stream_error(503)
                    return
                raise by_status(503, surface)
            if fault is not None and fault.kind is Kind.ERROR_EVENT and not plan.streams:
                raise by_status(fault.code, surface)
        except Refused as refused:
            entry.outcome, entry.status, entry.ended_at = "refused", refused.status, time.time()
            self._reply(connection, _reply(refused))
            return
        exchange = self._begin(connection, plan, given_id, second, entry, fault)
        run = Run(plan, exchange)
        if fault is not None and fault.kind is Kind.SLOW:
            run.slowness = fault.factor
        exchange.run = run
        self.engine.submit(run)
        exchange.begin()

    def _answered_at_once(self, connection: Connection, path: bytes, headers: Headers, body: bytes, now: float) -> bool:
        """The way of most requests in benchmarks: a known plan, an engine that takes no time, nothing special."""
        plan = self._plans.get((path, body))
        if plan is None or plan.longest > AT_ONCE or connection.paused or headers.get(b"content-type") != _JSON:
            return False
        if not self.engine.served_at_once(plan):
            return False
        answer_id = headers.get(b"x-request-id") if plan.takes_client_id else None
        if not answer_id:
            answer_id = b"%016x" % getrandbits(64)
        elif _PLAIN_ID.fullmatch(answer_id) is None:
            answer_id = _escaped(answer_id)
        entry = self.journal.open(now, path, answer_id)
        entry.outcome, entry.status, entry.ended_at = "finished", 200, now
        if plan.streams:
            entry.steps_sent = plan.longest
        frames = plan.frames(len(answer_id), int(now))
        connection.reply(frames.whole.replace(frames.mark, answer_id))
        return True

    def _plan(self, path: bytes, headers: Headers, body: bytes) -> Plan:
        if path == _TRANSCRIBES:
            return other_apis.transcription(body, self.model)
        _check_type(headers)
        if _CONTINUE in headers and path == _COMPLETES:
            return self._rest(int(headers[_CONTINUE]), body)
        plan = self._plans.get((path, body))
        if plan is None:
            plan = self._planners[path](checking.parse(body), self.model)
            if len(body) <= _LONGEST_KEPT_BODY:
                if len(self._plans) >= _MOST_PLANS:
                    self._plans.clear()
                self._plans[path, body] = plan
        return plan

    def _rest(self, answer: int, body: bytes) -> Plan:
        """What the real replica does before its engine sees a continuation."""
        words = self.model.words
        prepared = resuming.prepare(body, answer, lambda ids: words.decode(from_ids(ids)))
        plan = completions.plan(checking.parse(prepared.body), self.model)
        plan.dropped = prepared.dropped
        return plan

    def _begin(
        self, connection: Connection, plan: Plan, given_id: bytes, second: int, entry: Any, fault: Fault | None
    ) -> Exchange:
        answer_id = given_id if plan.takes_client_id else b"%016x" % getrandbits(64)
        if _PLAIN_ID.fullmatch(answer_id) is None:
            answer_id = _escaped(answer_id)
        self.gatekeeper.entered()
        exchange: Exchange
        if fault is not None and happens_while_answering(fault):
            exchange = FaultyExchange(connection, plan, answer_id, second, entry, self._over, fault, self.kill_engine)
        else:
            exchange = Exchange(connection, plan, answer_id, second, entry, self._over)
        connection.exchange = exchange
        return exchange

    def _over(self, exchange: Exchange, outcome: str) -> None:
        if exchange.entry.ended_at is None:
            exchange.entry.outcome, exchange.entry.ended_at = outcome, time.time()
            self.gatekeeper.left()
            if exchange.run is not None:
                self.engine.abort(exchange.run)

    def kill_engine(self) -> None:
        if not self.engine.dead:
            self.engine.die()
            self.on_death()

    def _fault(self, path: bytes, headers: Headers, is_work: bool) -> Fault | None:
        if self.model.knobs.header_faults and b"x-simulate" in headers:
            try:
                fault = read_header(headers[b"x-simulate"].decode("latin-1"))
            except BadFault:
                return None
            if fault.replica in ("", self.replica) and (is_work or fault.path):
                return fault
        if not self.faults.on_requests or path.startswith(_CONTROL):
            return None
        return self.faults.of_request(path.decode("latin-1"), is_work)

    def _goes_wrong_at_once(self, connection: Connection, fault: Fault, surface: Surface) -> bool:
        """Whether the fault took the request before any engine saw it."""
        match fault.kind:
            case Kind.CLOSE:
                connection.cut(fault.reset)
            case Kind.HANG:
                entry = self.journal.open(time.time(), b"", b"-")
                self._begin(connection, Plan(), b"-", int(time.time()), entry, None)
            case Kind.GARBAGE:
                connection.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
                connection.close()
            case Kind.STATUS:
                self._reply(connection, _reply(by_status(fault.code, surface)))
            case Kind.BUSY:
                self._reply(connection, REFUSALS["limit"])
            case Kind.MISDIRECTED:
                self._reply(connection, REFUSALS["misdirected"])
            case _:
                return False
        return True

    def _look(
        self, connection: Connection, method: bytes, path: bytes, query: bytes, headers: Headers, body: bytes
    ) -> Reply:
        """What needs no engine."""
        keeper = self.gatekeeper
        if path == b"/health":
            return keeper.health(self.engine.dead)
        if path == proof.HELLO_PATH.encode():
            return keeper.hello(headers, self.faults.of_hello() if self.faults.on_hellos else None)
        if path in (proof.STATE_PATH.encode(), proof.DRAIN_PATH.encode(), _METRICS) or path.startswith(_CONTROL):
            if not keeper.knows(headers):
                return REFUSALS["misdirected"]
            return self._control(method, path, query, body)
        refusal = keeper.refusal(connection, headers)
        if refusal is not None:
            return refusal
        try:
            return Reply(200, self._small_answer(method, path, headers, body))
        except Refused as refused:
            return _reply(refused)

    def _control(self, method: bytes, path: bytes, query: bytes, body: bytes) -> Reply:
        if path == _METRICS:
            text = metrics.text(self.engine, self.model.knobs, self.model.served)
            return Reply(200, text, f"content-type: {metrics.CONTENT_TYPE}\r\n")
        if path == proof.DRAIN_PATH.encode() and method == b"POST":
            self.gatekeeper.begin_drain()
        elif path.startswith(_CONTROL) and self.control is not None:
            return self.control(method, path, query, body)
        return self.gatekeeper.state()

    def _small_answer(self, method: bytes, path: bytes, headers: Headers, body: bytes) -> bytes:
        if path in self._planners or path == _TRANSCRIBES:
            raise not_allowed("POST")
        if path in _ANSWERS and not (self.model.knobs.embeds and path == b"/v1/messages/count_tokens"):
            if method != b"POST":
                raise not_allowed("POST")
            _check_type(headers)
            return compact(_ANSWERS[path](checking.parse(body), self.model))
        if path not in _LOOKS:
            raise not_found()
        if method != b"GET" and not (path == b"/ping" and method == b"POST"):
            raise not_allowed("GET")
        if path == b"/v1/models":
            return other_apis.models(self.model, int(time.time()))
        if path == b"/version":
            return compact({"version": VERSION})
        return compact({"server_load": self.gatekeeper.in_flight}) if path == b"/load" else b""

    def _reply(self, connection: Connection, reply: Reply) -> None:
        kind = "" if "content-type" in reply.headers else "application/json"
        data = planning.head(reply.status, int(time.time()), len(reply.body), kind, reply.headers) + reply.body
        connection.reply(data)


def _check_type(headers: Headers) -> None:
    if headers.get(b"content-type", b"").lower().split(b";")[0].strip() != _JSON:
        raise wrong_type()


def _escaped(answer_id: bytes) -> bytes:
    """An id of the client's that cannot stand in JSON as it is."""
    return encode_basestring(answer_id.decode("latin-1"))[1:-1].encode()


def _reply(refused: Refused) -> Reply:
    return Reply(refused.status, refused.body, f"allow: {refused.allow}\r\n" if refused.allow else "")
