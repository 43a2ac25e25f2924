"""One WebSocket of the realtime API: its model is found, it waits in the room like a request, then frames pass."""

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from shoal_api.routes import ModelRoute
from shoal_serving import websocket
from shoal_serving.gateway import errors, keys, patience, realtime_events
from shoal_serving.gateway.dispatching import Away
from shoal_serving.gateway.errors import Outcome, Refusal
from shoal_serving.gateway.keys import Caller
from shoal_serving.gateway.realtime_client import ClientSide
from shoal_serving.gateway.realtime_engine import EngineSide
from shoal_serving.gateway.realtime_events import Handshake
from shoal_serving.gateway.retrying import NONE_YET, Happening, History, Step, of_status, verdict
from shoal_serving.gateway.surfaces import REALTIME_PATH, Dialect
from shoal_serving.gateway.upstream import Connection, LiveEndpoint, Unreachable
from shoal_serving.gateway.waiting_room import Admission, Standing

if TYPE_CHECKING:
    from shoal_serving.gateway.line import Line
    from shoal_serving.gateway.switchboard import Switchboard

log = logging.getLogger(__name__)

NAMING_SECONDS = 30.0
"""So long may a client take to name its model."""
_EARLY_MOST = 256 * 1024
"""Bytes that a client may send before its replica is found."""
_CANCELLED_STATUS = 499


class Session:
    """The whole story: naming, waiting, connecting, open, over."""

    def __init__(self, switchboard: "Switchboard", transport: asyncio.Transport, connections: set[Any]) -> None:
        self.clock = switchboard.clock
        self.arrived = self._queued_at = switchboard.clock()
        self.number = switchboard.next_number()
        self.turn = 0
        self.give_up_at = patience.NEVER
        self.tried: set[str] = set()
        self.revision: str | None = None
        self.history = NONE_YET
        self._switchboard = switchboard
        self._request_id = switchboard.new_request_id()
        self._caller: Caller = keys.ANYBODY
        self._handshake: Handshake | None = None
        self._line: Line | None = None
        self._endpoint: LiveEndpoint | None = None
        self._engine: EngineSide | None = None
        self._early: list[bytes] = []
        self._early_size = 0
        self._is_over = self._has_said_goodbye = False
        self._queue_seconds = 0.0
        self._connected_at = 0.0
        self.client = ClientSide(self, transport, connections, self._request_id)

    # -- it begins

    def begin(self, url_query: bytes, lines: realtime_events.Lines) -> None:
        """Look at what is asked, and answer it or find a replica."""
        self._switchboard.exchanges.add(self)
        caller = keys.identify(realtime_events.with_key(lines), self._switchboard.keyring)
        asked = realtime_events.read(url_query, lines)
        if isinstance(caller, Refusal):
            self._refuse(caller)
        elif isinstance(asked, Refusal):
            self._refuse(asked)
        else:
            self._caller, self._handshake = caller, asked
            if asked.model is not None:
                self._find(asked.model)
            else:
                self._accept()
                self.client.say(realtime_events.created(f"sess-{self._request_id.decode()}"))

    def _accept(self) -> None:
        if self._handshake is not None:
            self.client.accept(self._handshake, self._line.canonical_line if self._line is not None else b"")

    def _find(self, model: str) -> None:
        switchboard = self._switchboard
        route = switchboard.table.by_name.get(model)
        if route is None:
            self._refuse(switchboard.not_found(model, self._caller))
        elif not self._caller.may_use(route, switchboard.table):
            self._refuse(keys.denied(model))
        else:
            self._line = line = switchboard.line_of(route)
            if route.cannot_start and not line.dispatcher.endpoints:
                self._refuse(switchboard.refusals.cannot_start(route))
            elif switchboard.is_draining:
                self._refuse(switchboard.refusals.stopping())
            else:
                self._queue(line)

    def _queue(self, line: "Line") -> None:
        endpoint = line.dispatcher.ask(self)
        if isinstance(endpoint, LiveEndpoint):
            self._try(endpoint)
        elif endpoint is Admission.FULL:
            self._refuse(self._switchboard.refusals.queue_full(line.route))
        else:
            self._switchboard.waits(line)

    # -- what the dispatcher asks and tells

    def is_deadly(self) -> bool:
        """Whether an engine ended over it already."""
        return self.history.deaths > 0

    def granted(self, endpoint: LiveEndpoint) -> None:
        """An endpoint is reserved for it."""
        self._queue_seconds += self.clock() - self._queued_at
        self._try(endpoint)

    def standing(self) -> Standing:
        """In whose line it waits."""
        return self._caller.standing("", self.client.address())

    def sent_away(self, away: Away) -> None:
        """It need not wait any longer."""
        assert self._line is not None  # noqa: S101  (nothing waits before the model is found)
        self._refuse(self._switchboard.sent_away(away, self._line, self._caller))

    # -- a replica is tried

    @property
    def _route(self) -> ModelRoute:
        assert self._line is not None  # noqa: S101  (nothing is tried before the model is found)
        return self._line.route

    def _try(self, endpoint: LiveEndpoint) -> None:
        self._endpoint = endpoint
        self._connected_at = self.clock()

        def opened(result: Connection | Unreachable) -> None:
            if isinstance(result, Unreachable):
                endpoint.unreachable(self.clock(), str(result))
                if not self._is_over:
                    self._ended(Happening.UNREACHABLE)
                return
            endpoint.reached()
            if self._is_over:
                result.hand_back(self.clock())
                return
            self._engine = EngineSide(self, self._request_id, self._line.dispatcher.limit if self._line else 0)
            self._engine.begin(result)

        endpoint.open(self._route.timeouts.connect_seconds, opened)

    def engine_agreed(self) -> None:
        """The replica speaks WebSocket from here on."""
        line, engine = self._line, self._engine
        if line is None or engine is None or self._endpoint is None:
            return
        self._endpoint.health.served()
        # A client that named its model in the query got no session of ours: the engine's own is passed on.
        engine.swallows_first = self.client.is_accepted
        self._accept()
        if self._handshake is not None and self._handshake.model is not None:
            engine.send(realtime_events.update(line.route.served_name))
        early, self._early = self._early, []
        # First of all, since the engine may be slow to take what comes now.
        self.client.resume()
        for raw in early:
            engine.write(raw)

    def engine_refused(self, status: int, is_busy: bool, body: bytes) -> None:
        """The replica answered with something else."""
        endpoint = self._endpoint
        if endpoint is None:
            return
        now = self.clock()
        if is_busy:
            endpoint.health.busy(now)
            self._ended(Happening.BUSY)
        elif status == 421:
            endpoint.unreachable(now, "it did not take our proof: another replica has its address")
            self._ended(Happening.UNREACHABLE)
        else:
            found = errors.read(status if status >= 400 else 502, body, Dialect.OPENAI)
            self._ended(of_status(found.status), found)

    def engine_lost(self, was_open: bool) -> None:
        """The connection to the replica ended."""
        if self._is_over:
            return
        if not was_open:
            self._ended(Happening.CLOSED)
        elif self._has_said_goodbye:
            self._through(Happening.COMPLETE)
            self._finish(Outcome.OK, 101)
        else:
            lost = Refusal(500, "The replica was lost; open another session.", "upstream_lost")
            log.info("request=%s reason=UpstreamLost because=a realtime session was cut", self._request_id.decode())
            self._say_error(lost, websocket.BROKEN)
            self._through(Happening.CUT)
            self._finish(Outcome.UPSTREAM_LOST, 101)

    def _ended(self, happening: Happening, found: Refusal | None = None) -> None:
        """A try brought no session: the same table decides as for a request."""
        line, endpoint, switchboard = self._line, self._endpoint, self._switchboard
        if line is None or endpoint is None:
            return
        self._count_attempt(happening)
        self._engine = self._endpoint = None
        untried = line.dispatcher.has_untried(self.tried | {endpoint.uid})
        decided = verdict(happening, self.history, committed=False, untried=untried)
        self.history = decided.history
        if decided.tried:
            self.tried.add(endpoint.uid)
        if decided.step is Step.ANOTHER and not switchboard.is_shedding:
            self._queued_at = self.clock()
            line.dispatcher.ask_again(self, endpoint)
            return
        line.dispatcher.release(endpoint)
        self._refuse(switchboard.refusals.after(decided.step, decided.history, found))

    def _count_attempt(self, happening: Happening) -> None:
        if self._line is not None:
            self._line.metrics.count_attempt(happening)

    # -- frames

    @property
    def _is_open(self) -> bool:
        """Whether a replica hears what the client says."""
        return self._engine is not None and self._engine.is_open

    def client_senseless(self, because: str) -> None:
        """What the client sends is no frame."""
        self._say_error(Refusal(400, f"Not a WebSocket frame: {because}.", "invalid_websocket"), websocket.POLICY)
        self._finish(Outcome.CLIENT_ERROR, 400)

    def from_client(self, frame: websocket.Frame) -> None:
        """Pass on what the client says; its model's name is found in it, or made the engine's."""
        if frame.opcode == websocket.CLOSE:
            self._has_said_goodbye = True
            if not self._is_open:
                self.client.write(websocket.close_frame(websocket.NORMAL))
                self._leave(Outcome.CANCELLED)
                return
        named: str | None = None
        if frame.is_whole_text and len(frame.raw) <= realtime_events.LOOKED_INTO_MOST:
            named = realtime_events.model_in(frame.payload)
        if frame.opcode == websocket.PING and self.client.is_accepted and not self._is_open:
            # Not kept for the replica: a client takes the other end for dead that says nothing while one starts.
            self.client.write(websocket.frame(websocket.PONG, frame.payload))
            return
        if self._line is None:
            self._name(frame, named)
            return
        raw = frame.raw
        if named and named != self._route.served_name and named in self._route.names:
            raw = websocket.frame(
                websocket.TEXT, realtime_events.with_model(frame.payload, self._route.served_name), frame.mask
            )
        self._towards_engine(raw)

    def _name(self, frame: websocket.Frame, named: str | None) -> None:
        """No model yet: only the event that names one leads on."""
        if named:
            self._find(named)
            if not self._is_over:
                served = realtime_events.with_model(frame.payload, self._route.served_name)
                self._towards_engine(websocket.frame(websocket.TEXT, served, frame.mask))
        elif frame.opcode != websocket.PONG:
            self.client.say(realtime_events.error("Name a model first, in a session.update.", "invalid_event"))

    def _towards_engine(self, raw: bytes) -> None:
        engine = self._engine
        if engine is not None and self._is_open:
            engine.write(raw)
            return
        self._early.append(raw)
        self._early_size += len(raw)
        if self._early_size > _EARLY_MOST:
            self.client.pause()

    def from_engine(self, frame: websocket.Frame) -> None:
        """Pass on what the replica says."""
        if frame.opcode == websocket.CLOSE:
            self._has_said_goodbye = True
        self.client.write(frame.raw)

    def _say_error(self, refusal: Refusal, code: int) -> None:
        """As an event, and then the end; in the middle of a large frame only the end can be told."""
        if self._engine is None or not self._engine.is_inside_large:
            self.client.say_error(refusal, code)

    # -- back-pressure

    def client_slow(self) -> None:
        """The client does not keep up."""
        if self._engine is not None:
            self._engine.pause()

    def client_ready(self) -> None:
        """It does again."""
        if self._engine is not None:
            self._engine.resume()

    def engine_slow(self) -> None:
        """The replica does not keep up."""
        self.client.pause()

    def engine_ready(self) -> None:
        """It does again."""
        self.client.resume()

    # -- what happens from outside

    def check(self, now: float) -> None:
        """Called a few times a second: deadlines before the session is open."""
        if self._is_over:
            return
        line = self._line
        if line is None:
            if now - self.arrived > NAMING_SECONDS:
                self._refuse(Refusal(400, "The session named no model in time.", "missing_required_parameter", "model"))
        elif self._endpoint is None:
            refusal = self._switchboard.refusals.of_waiting(line, now, self.arrived, self.give_up_at)
            if refusal is not None:
                line.dispatcher.leave(self)
                self._refuse(refusal)
        elif (
            self._engine is not None
            and not self._engine.is_open
            and now - self._connected_at > line.route.timeouts.first_byte_seconds
        ):
            self._engine.abort()
            self._ended(Happening.NO_FIRST_BYTE)

    def shed(self) -> None:
        """The gateway stops: a session ends, too, since it would never end by itself."""
        if not self._is_over:
            if self._line is not None and self._endpoint is None:
                self._line.dispatcher.leave(self)
            self._refuse(self._switchboard.refusals.stopping(), websocket.GOING_AWAY)

    def client_gone(self) -> None:
        """The client's connection ended."""
        self._leave(Outcome.OK if self._has_said_goodbye else Outcome.CANCELLED)

    # -- the ends

    def _leave(self, outcome: Outcome) -> None:
        """The client goes."""
        line = self._line
        if self._engine is not None:
            self._through(Happening.COMPLETE if outcome is Outcome.OK else Happening.ABORTED)
        elif line is not None and self._endpoint is None:
            line.dispatcher.leave(self)
        self._finish(outcome, 101 if outcome is Outcome.OK else _CANCELLED_STATUS)

    def _through(self, happening: Happening) -> None:
        """The try that is under way, if one is, was the last: the engine's work ends, too."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.abort()
            self._count_attempt(happening)
            self.history = History(self.history.attempts + 1, self.history.deaths)

    def _refuse(self, refusal: Refusal, code: int = websocket.TRY_LATER) -> None:
        if self.client.is_accepted:
            self._say_error(refusal, code if refusal.status >= 429 else websocket.POLICY)
        else:
            self.client.refuse(refusal)
        self._finish(refusal.outcome, refusal.status)

    def _finish(self, outcome: Outcome, status: int) -> None:
        """The one end of every session: everything is counted and freed here."""
        self._through(Happening.ABORTED)
        switchboard, line, endpoint = self._switchboard, self._line, self._endpoint
        self._is_over = True
        self._early = []
        self._endpoint = None
        switchboard.exchanges.discard(self)
        if endpoint is not None and line is not None:
            line.dispatcher.release(endpoint)
        seconds = self.clock() - self.arrived
        metrics = line.metrics if line is not None else switchboard.nameless
        metrics.count_request(REALTIME_PATH, outcome)
        metrics.duration.observe(seconds)
        switchboard.access_log.note(
            self._request_id,
            self._caller.name,
            line.route.id if line is not None else "",
            REALTIME_PATH,
            outcome,
            status,
            self.history.attempts,
            self._queue_seconds,
            0.0,
            seconds,
            0,
        )
        self.client.end()
