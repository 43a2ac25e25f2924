"""The state of one gateway process: the route table in force, the line of each model, everything under way."""

import logging
import os
from collections.abc import Callable, Collection, Mapping
from random import Random
from typing import Protocol

from shoal_api import load as treaty
from shoal_api.load import LoadMessage, ModelLoad, ReplicaSums
from shoal_api.routes import Endpoint, ModelRoute, RouteDocument
from shoal_serving.gateway import openai_shapes, route_table
from shoal_serving.gateway.access_log import AccessLog
from shoal_serving.gateway.cluster_wire import WatchState
from shoal_serving.gateway.dispatching import Away, Dispatcher
from shoal_serving.gateway.errors import Refusal
from shoal_serving.gateway.keys import Caller, Keyring
from shoal_serving.gateway.line import Line
from shoal_serving.gateway.load_telling import Alarm
from shoal_serving.gateway.metrics import ModelGauges, ModelMetrics, Reading
from shoal_serving.gateway.refusals import Refusals
from shoal_serving.gateway.route_table import RouteTable
from shoal_serving.gateway.surfaces import Surface
from shoal_serving.gateway.upstream import IDLE_SECONDS, LiveEndpoint
from shoal_serving.gateway.waiting_room import ByteBudget

log = logging.getLogger(__name__)

SWEEP_SECONDS = 0.1
_ID_LENGTH = 32
_IDS_DRAWN = 128


class UnderWay(Protocol):
    """What has begun and is not over: a request, or a realtime session."""

    def check(self, now: float) -> None:
        """Deadlines and heartbeats."""

    def shed(self) -> None:
        """The drain is over."""


class Switchboard:
    """Everything the gateway's connections share. Time and randomness come from outside."""

    def __init__(
        self,
        make_endpoint: Callable[[ModelRoute, Endpoint], LiveEndpoint],
        budget: ByteBudget,
        max_body_bytes: int,
        access_log: AccessLog,
        clock: Callable[[], float],
        random: Random,
        call_at: Callable[[float, Callable[[], None]], None],
        keyring: Keyring | None = None,
    ) -> None:
        """Without a keyring nobody is asked for a key."""
        self.table = route_table.EMPTY
        self.keyring = keyring
        self.budget = budget
        self.max_body_bytes = max_body_bytes
        self.access_log = access_log
        self.clock = clock
        self.refusals = Refusals(random)
        self.exchanges: set[UnderWay] = set()
        self.nameless = ModelMetrics()
        self.boot = f"{random.getrandbits(64):016x}"
        self.alarm = Alarm()
        self.is_draining = False
        self.is_shedding = False
        self._make_endpoint = make_endpoint
        self._random = random
        self._call_at = call_at
        self._lines: dict[str, Line] = {}
        self._metrics: dict[str, ModelMetrics] = {}
        self._numbers = 0
        self._began = clock()
        self._ids = b""
        self._ids_at = 0

    # -- routes

    def apply(self, document: RouteDocument) -> None:
        """Put another route document in force, all at once."""
        table = route_table.make(document)
        gone = [uid for uid in self._lines if uid not in table.by_uid]
        self._swap(table, tuple(table.by_uid.values()), gone)

    def change(self, routes: Collection[ModelRoute], gone: Collection[str]) -> None:
        """Put these routes in force beside the others, all at once, without the models that are gone."""
        self._swap(route_table.changed(self.table, routes, gone), routes, gone)

    def _swap(self, table: RouteTable, routes: Collection[ModelRoute], gone: Collection[str]) -> None:
        before, self.table = self.table, table
        for uid in gone:
            if uid in self._lines:
                self._lines.pop(uid).dispatcher.close()
        for route in routes:
            line = self._lines.get(route.uid)
            if line is None:
                self.line_of(route)
            elif line.route is not route:
                line.update(route)
        log.info(
            "reason=Routes models=%d endpoints=%d names=%d%s",
            len(table.by_uid),
            sum(len(route.endpoints) for route in table.by_uid.values()),
            len(table.by_name),
            "" if before is not route_table.EMPTY else " (the first)",
        )

    def line_of(self, route: ModelRoute) -> Line:
        """The line of a model in the table."""
        line = self._lines.get(route.uid)
        if line is None:
            dispatcher = Dispatcher(route, self._make_endpoint, self.clock, self._random.random, self._call_at)
            line = Line(dispatcher, self._metrics.setdefault(route.id, ModelMetrics()))
            self._lines[route.uid] = line
        return line

    def waits(self, line: Line) -> None:
        """A request began to wait; where there is no replica at all, the operator must know at once."""
        if line.dispatcher.endpoints:
            return
        self.alarm.ring()
        if len(line.dispatcher.room) == 1:
            log.info("model=%s reason=FirstHeld because=a request waits and no replica is ready", line.route.id)

    # -- keys

    def admit(self, keyring: Keyring) -> None:
        """Put other keys in force, for every request that comes from now on."""
        self.keyring = keyring
        log.info("reason=Keys keys=%d", len(keyring))

    # -- small change

    def next_number(self) -> int:
        """Counts arrivals."""
        self._numbers += 1
        return self._numbers

    def new_request_id(self) -> bytes:
        """An id for a request that came without. Drawn many at a time: that costs a fifth."""
        at = self._ids_at
        if at == len(self._ids):
            self._ids = self._random.randbytes(_IDS_DRAWN * _ID_LENGTH // 2).hex().encode()
            at = 0
        self._ids_at = at + _ID_LENGTH
        return self._ids[at : at + _ID_LENGTH]

    def new_trace(self, request_id: bytes) -> bytes:
        """A W3C traceparent, not sampled, for a request that came without; its trace id is one of our request ids."""
        return b"00-%b-%b-00" % (request_id, request_id[:16])

    # -- who is refused, and why

    def not_found(self, model: str, caller: Caller) -> Refusal:
        """The name leads nowhere, as far as is known; before anything is known, that says nothing about the model."""
        if self.table is route_table.EMPTY:
            return self.refusals.starting()
        return openai_shapes.not_found(model, caller.names(self.table))

    def sent_away(self, away: Away, line: Line, caller: Caller) -> Refusal:
        """What is told to a request that need not wait any longer."""
        match away:
            case Away.STRANDED:
                return self.refusals.overloaded()
            case Away.UNROUTED:
                return self.not_found(line.route.served_name, caller)
            case Away.DISPLACED:
                return self.refusals.queue_full(line.route)
            case Away.LATE:
                return self.refusals.client_late(line)

    def count_refused(
        self, surface: Surface, request_id: bytes, caller: Caller, refusal: Refusal, seconds: float
    ) -> None:
        """A request that was refused before it had a model."""
        self.nameless.count_request(surface.path, refusal.outcome)
        self.nameless.duration.observe(seconds)
        self.access_log.note(
            request_id, caller.name, "", surface.path, refusal.outcome, refusal.status, 0, 0.0, 0.0, seconds, 0
        )

    # -- the whole

    def sweep(self) -> None:
        """Deadlines, heartbeats, idle connections; called every SWEEP_SECONDS."""
        now = self.clock()
        for exchange in list(self.exchanges):
            exchange.check(now)
        for line in self._lines.values():
            line.note_use(now)
            for endpoint in line.dispatcher.endpoints:
                if endpoint.idle:
                    endpoint.close_idle(now - IDLE_SECONDS)
        self.access_log.flush()

    def shed(self) -> None:
        """The drain is over: who waits is sent away, who comes is, too."""
        self.is_shedding = True
        for exchange in list(self.exchanges):
            exchange.shed()

    def close(self) -> None:
        """Close what is idle and write what was not written."""
        for line in self._lines.values():
            line.dispatcher.close()
        self.access_log.flush()

    # -- load

    def loads(self) -> dict[str, ModelLoad]:
        """Every model that was asked for since this gateway began."""
        now = self.clock()
        models = {}
        for line in self._lines.values():
            line.note_use(now)
            dispatcher = line.dispatcher
            if line.busy_at is not None:
                models[line.route.id] = ModelLoad(
                    waiting=len(dispatcher.room),
                    in_flight=dispatcher.in_flight,
                    in_flight_by_replica=dict(dispatcher.in_flight_by_replica()),
                    arrived=dispatcher.asked,
                    idle_seconds=round(now - line.busy_at, 1),
                    callers=dispatcher.callers(),
                )
        return models

    def load(self) -> LoadMessage:
        """Who waits and runs now."""
        models = {model: load for model, load in self.loads().items() if load.waiting or load.in_flight}
        return LoadMessage(version=treaty.VERSION, boot=self.boot, uptime_seconds=self.uptime_seconds(), models=models)

    def uptime_seconds(self) -> float:
        """How long this gateway counts already."""
        return round(self.clock() - self._began, 1)

    def put_sums(self, sums: ReplicaSums) -> None:
        """What other gateways have in flight, and where callers wait."""
        for line in list(self._lines.values()):
            by_replica = sums.elsewhere.get(line.route.id, {})
            for endpoint in line.dispatcher.endpoints:
                endpoint.elsewhere = by_replica.get(endpoint.facts.replica, 0)
            line.dispatcher.share(sums.claims.get(line.route.id))

    def reading(self, open_connections: int, watches: Mapping[str, WatchState]) -> Reading:
        """What the metrics show."""
        now = self.clock()
        gauges = {}
        for line in self._lines.values():
            dispatcher = line.dispatcher
            states = {"open": 0, "busy": 0, "out": 0}
            for endpoint in dispatcher.endpoints:
                health = endpoint.health
                states["out" if health.is_out else "open" if health.is_open(now) else "busy"] += 1
            idle = sum(len(endpoint.idle) for endpoint in dispatcher.endpoints)
            gauges[line.route.id] = ModelGauges(len(dispatcher.room), dispatcher.in_flight, states, idle)
        models = {"": self.nameless, **self._metrics}
        return Reading(models, gauges, self.budget.held, open_connections, watches)


def boot_random() -> Random:
    """Randomness for ties, ids and jitter; nothing secret is made of it."""
    return Random(os.urandom(16))  # noqa: S311
