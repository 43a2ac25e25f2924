"""A dispatcher in a world of its own: requests, a clock and timers that the test moves."""

from collections.abc import Callable
from datetime import UTC, datetime
from math import inf
from random import Random
from typing import Any

from shoal_api.routes import Endpoint, ModelRoute
from shoal_serving.gateway.dispatching import Away, Dispatcher
from shoal_serving.gateway.upstream import LiveEndpoint
from shoal_serving.gateway.waiting_room import Admission, Standing


class Asker:
    """A request, as far as a dispatcher sees one."""

    def __init__(self, number: int, caller: str = "a", give_up_at: float = inf) -> None:
        self.number = number
        self.turn = 0
        self.caller = caller
        self.looked_at = 0
        self.tried: set[str] = set()
        self.revision: str | None = None
        self.deadly = False
        self.endpoint: LiveEndpoint | None = None
        self.end = ""
        self._give_up_at = give_up_at

    @property
    def give_up_at(self) -> float:
        """Asked of each request that a wake-up looks at."""
        self.looked_at += 1
        return self._give_up_at

    @give_up_at.setter
    def give_up_at(self, at: float) -> None:
        self._give_up_at = at

    def standing(self) -> Standing:
        return Standing(self.caller)

    def is_deadly(self) -> bool:
        return self.deadly

    def granted(self, endpoint: LiveEndpoint) -> None:
        self.endpoint = endpoint

    def sent_away(self, away: Away) -> None:
        self.end = away


class World:
    """A dispatcher with a clock and timers that the test moves."""

    def __init__(self, *replicas: str, tick: float = 0.0, **queue: Any) -> None:
        self.now = 1000.0
        self.tick = tick
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.numbers = 0
        self.dispatcher: Dispatcher[LiveEndpoint] = Dispatcher(
            self.route(*replicas, **queue),
            lambda _, facts: LiveEndpoint(facts, b""),
            self.clock,
            Random(1).random,
            lambda at, then: self.timers.append((at, then)),
        )

    def route(self, *replicas: str, **queue: Any) -> ModelRoute:
        return ModelRoute(
            namespace="d",
            name="m",
            uid="u",
            created=datetime(2026, 1, 1, tzinfo=UTC),
            served_name="m",
            names=["m"],
            queue=queue,
            endpoints=[Endpoint(replica=name, uid=name, host="h", port=1) for name in replicas],
        )

    def clock(self) -> float:
        self.now += self.tick
        return self.now

    def ask(self, caller: str = "a", give_up_at: float = inf) -> Asker:
        self.numbers += 1
        asker = Asker(self.numbers, caller, give_up_at)
        found = self.dispatcher.ask(asker)
        if isinstance(found, LiveEndpoint):
            asker.endpoint = found
        elif found is Admission.FULL:
            asker.end = "full"
        return asker

    def endpoint(self, name: str) -> LiveEndpoint:
        return next(endpoint for endpoint in self.dispatcher.endpoints if endpoint.uid == name)

    def run_timers(self) -> None:
        """Every timer at its time, as a loop does; a timer may come up to half a millisecond early."""
        while self.timers:
            at, then = min(self.timers, key=lambda timer: timer[0])
            self.timers.remove((at, then))
            self.now = max(self.now, at - 0.0005)
            then()
            self.tick = self.tick or 0.0001
