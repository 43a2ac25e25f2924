"""One model, its gateway and its replicas over a trace: what a policy's choices cost, and how long requests wait.

Order and balancing are the gateway's own (dispatching); an engine shares its time among what runs on it, so that each
token takes longer the more there is; a replica takes a cold start until it is ready, and finishes what runs when it
is told to go, as in the product.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from math import inf
from random import Random

from autoscaling.policies import Policy, View
from autoscaling.traces import Request, Trace
from quantiles import percentile
from shoal_api.routes import Endpoint, ModelRoute
from shoal_api.routing import Queue
from shoal_serving.gateway.dispatching import Away, Dispatcher, EndpointState
from shoal_serving.gateway.waiting_room import Admission, Standing

WARM_UP_SECONDS = 300.0
"""What comes before is played and not counted: no policy is to blame for the load that it finds."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What a replica can do."""

    step_seconds: float = 0.030
    step_seconds_per_request: float = 0.002
    prompt_tokens_per_second: float = 8000.0
    limit: int = 16
    cold_start_seconds: tuple[float, float] = (50.0, 75.0)
    settle_seconds: float = 2.0
    longest_wait_seconds: float = 300.0
    most_waiting: int = 1000


@dataclass(frozen=True, slots=True)
class Result:
    """What one run cost and brought."""

    replica_seconds: float
    waits: tuple[float, ...]
    lost: int
    turns: int
    """Times that the wanted number went down after it had gone up."""
    wanted: tuple[tuple[float, int], ...]

    def wait(self, share: float) -> float:
        return percentile(self.waits, share)


class _Replica:
    """A replica with an engine that shares its time."""

    __slots__ = ("born", "finishes", "is_going", "is_ready", "machine", "name", "since", "state", "turn", "work")

    def __init__(self, name: str, machine: Machine, born: float) -> None:
        self.name = name
        self.machine = machine
        self.born = self.since = born
        self.is_ready = self.is_going = False
        self.work = 0.0
        """Tokens that each of the running has had since the beginning."""
        self.finishes: list[tuple[float, int, _Ticket]] = []
        self.turn = 0
        self.state: EndpointState | None = None

    def _pace(self) -> float:
        return 1 / (self.machine.step_seconds + self.machine.step_seconds_per_request * len(self.finishes))

    def move(self, now: float) -> None:
        if self.finishes:
            self.work += (now - self.since) * self._pace()
        self.since = now

    def begin(self, ticket: "_Ticket", now: float) -> None:
        self.move(now)
        request = ticket.request
        prefill = request.prompt / self.machine.prompt_tokens_per_second / self.machine.step_seconds
        heapq.heappush(self.finishes, (self.work + prefill + request.answer, ticket.number, ticket))

    def next_end(self) -> float:
        return self.since + max(0.0, self.finishes[0][0] - self.work) / self._pace()


@dataclass(eq=False, slots=True)
class _Ticket:
    """A request at the gateway."""

    number: int
    request: Request
    world: "World"
    tried: set[str] = field(default_factory=set)
    revision: str | None = None
    turn: int = 0
    give_up_at: float = inf
    is_over: bool = False

    def is_deadly(self) -> bool:
        return False

    def granted(self, endpoint: EndpointState) -> None:
        self.world.start(self, endpoint)

    def standing(self) -> Standing:
        return Standing("everybody")

    def sent_away(self, away: Away) -> None:
        raise AssertionError(f"the model stays, no engine dies, and clients are patient: {away}")


class World:
    """Everything there is, and the clock."""

    def __init__(self, trace: Trace, policy: Policy, machine: Machine, seed: int) -> None:
        self._trace = trace
        self._policy = policy
        self._machine = machine
        self._chance = Random(f"world {seed}")  # noqa: S311  (no secret)
        self.now = 0.0
        self._numbers = count()
        self._events: list[tuple[float, int, str, object]] = []
        self._replicas: dict[str, _Replica] = {}
        self._route = ModelRoute(
            namespace="n",
            name="m",
            uid="u",
            created=datetime(2026, 1, 1, tzinfo=UTC),
            served_name="m",
            names=["m"],
            queue=Queue(max_in_flight_per_replica=machine.limit, max_waiting=machine.most_waiting),
        )
        self._dispatcher: Dispatcher[EndpointState] = Dispatcher(
            self._route,
            lambda _route, facts: EndpointState(facts),
            lambda: self.now,
            self._chance.random,
            lambda at, then: self._push(at, "call", then),
        )
        self._wanted = trace.least_replicas
        self._history = [(0.0, self._wanted)]
        self._busy_at = 0.0
        self._waits: list[float] = []
        self._arrived = 0
        self._lost = 0
        self._spent = 0.0

    def run(self) -> Result:
        """To the end of the trace, and until all that came is over."""
        for request in self._trace.requests:
            self._push(request.at, "come", request)
        for number in range(self._wanted):
            self._make(number).is_ready = True
        self._reroute()
        self._push(1.0, "tick", None)
        while self._events:
            at, _, what, subject = heapq.heappop(self._events)
            self.now = at
            getattr(self, f"_on_{what}")(subject)
        return self._result()

    def start(self, ticket: _Ticket, endpoint: EndpointState) -> None:
        """The gateway sends a request to a replica."""
        self._note_wait(ticket, self.now - ticket.request.at)
        replica = self._replicas[endpoint.facts.replica]
        replica.begin(ticket, self.now)
        self._plan_end(replica)

    def _on_come(self, request: Request) -> None:
        self._busy_at = self.now
        self._arrived += 1
        ticket = _Ticket(next(self._numbers), request, self)
        found = self._dispatcher.ask(ticket)
        if isinstance(found, EndpointState):
            self.start(ticket, found)
        elif found is Admission.FULL:
            self._lost += 1
        else:
            self._push(self.now + self._machine.longest_wait_seconds, "tire", ticket)
            if not self._dispatcher.endpoints and self._wanted == 0:
                self._decide()

    def _on_tire(self, ticket: _Ticket) -> None:
        if not ticket.is_over:
            self._dispatcher.leave(ticket)
            self._note_wait(ticket, self._machine.longest_wait_seconds)
            self._lost += 1

    def _on_end(self, subject: tuple[_Replica, int]) -> None:
        replica, turn = subject
        if turn != replica.turn:
            return
        replica.move(self.now)
        heapq.heappop(replica.finishes)
        self._busy_at = self.now
        if replica.state is not None:
            self._dispatcher.release(replica.state)
        self._plan_end(replica)
        self._end_if_done(replica)

    def _on_call(self, then: Callable[[], None]) -> None:
        then()

    def _on_ready(self, replica: _Replica) -> None:
        if not replica.is_going:
            replica.is_ready = True
            self._reroute()

    def _on_gone(self, replica: _Replica) -> None:
        self._end_if_done(replica)

    def _on_tick(self, _: object) -> None:
        self._decide()
        if self.now < self._trace.seconds or self._dispatcher.room or self._dispatcher.in_flight:
            self._push(self.now + 1.0, "tick", None)

    def _decide(self) -> None:
        dispatcher = self._dispatcher
        ready = sum(replica.is_ready and not replica.is_going for replica in self._replicas.values())
        view = View(
            len(dispatcher.room), dispatcher.in_flight, self._wanted, ready, self.now - self._busy_at, self._arrived
        )
        wanted = self._policy.wanted(self.now, view)
        if wanted == self._wanted:
            return
        self._wanted = wanted
        self._history.append((self.now, wanted))
        staying = [replica for replica in self._replicas.values() if not replica.is_going]
        for _ in range(wanted - len(staying)):
            replica = self._make(next(self._numbers))
            self._push(self.now + self._chance.uniform(*self._machine.cold_start_seconds), "ready", replica)
        # Unready first, then least loaded, then youngest, for every policy alike.
        order = sorted(staying, key=lambda r: (r.is_ready, len(r.finishes), -r.born))
        for replica in order[: max(0, len(staying) - wanted)]:
            replica.is_going = True
            self._push(self.now + (self._machine.settle_seconds if replica.is_ready else 0.0), "gone", replica)
        self._reroute()

    def _make(self, number: int) -> _Replica:
        replica = _Replica(f"r{number}", self._machine, self.now)
        self._replicas[replica.name] = replica
        return replica

    def _reroute(self) -> None:
        serving = [r for r in self._replicas.values() if r.is_ready and not r.is_going]
        endpoints = [Endpoint(replica=r.name, uid=r.name, host="h", port=1) for r in serving]
        self._dispatcher.update(self._route.model_copy(update={"endpoints": endpoints}))
        for state in self._dispatcher.endpoints:
            self._replicas[state.facts.replica].state = state

    def _plan_end(self, replica: _Replica) -> None:
        replica.turn += 1
        if replica.finishes:
            self._push(replica.next_end(), "end", (replica, replica.turn))

    def _end_if_done(self, replica: _Replica) -> None:
        if replica.is_going and not replica.finishes and replica.name in self._replicas:
            del self._replicas[replica.name]
            self._spend(replica)

    def _note_wait(self, ticket: _Ticket, seconds: float) -> None:
        ticket.is_over = True
        if ticket.request.at >= WARM_UP_SECONDS:
            self._waits.append(seconds)

    def _spend(self, replica: _Replica) -> None:
        self._spent += max(0.0, self.now - max(replica.born, WARM_UP_SECONDS))

    def _push(self, at: float, what: str, subject: object) -> None:
        heapq.heappush(self._events, (at, next(self._numbers), what, subject))

    def _result(self) -> Result:
        for replica in self._replicas.values():
            self._spend(replica)
        turns = 0
        rising = False
        for (_, before), (_, after) in zip(self._history, self._history[1:], strict=False):
            turns += after < before and rising
            rising = after > before
        return Result(self._spent, tuple(sorted(self._waits)), self._lost, turns, tuple(self._history))


def simulate(trace: Trace, policy: Policy, seed: int, machine: Machine | None = None) -> Result:
    """One run."""
    return World(trace, policy, machine or Machine(), seed).run()
