"""Bring the requests of one model and its endpoints together: at once where there is room, else turn by turn."""

import logging
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

from shoal_api.load import Claims
from shoal_api.routes import Endpoint, ModelRoute
from shoal_serving.gateway import balancing, sharing
from shoal_serving.gateway.endpoint_health import Health
from shoal_serving.gateway.waiting_room import Admission, Standing, WaitingRoom

log = logging.getLogger(__name__)

_ALL = 1 << 40


def _nobody_waits() -> None:
    """Of an endpoint that is in no line yet."""


class EndpointState:
    """What one gateway keeps of one endpoint while it is in the route table, and until its last request ends."""

    __slots__ = ("changed", "elsewhere", "facts", "gone", "health", "in_flight", "uid")

    def __init__(self, facts: Endpoint) -> None:
        self.facts = facts
        self.uid = facts.uid
        self.in_flight = 0
        self.elsewhere = 0
        self.health = Health()
        self.gone = False
        self.changed: Callable[[], None] = _nobody_waits
        """To be called where it may be asked again, or from another moment on, and no release tells that."""

    def retire(self) -> None:
        """It left the route table: nothing new goes there, what runs may end."""
        self.gone = True

    def come_back(self) -> None:
        """It is in the route table again, and what ran there meanwhile still does."""
        self.gone = False
        self.health = Health()


E = TypeVar("E", bound=EndpointState)
E_contra = TypeVar("E_contra", bound=EndpointState, contravariant=True)


class Away(StrEnum):
    """Why a request that waits is sent away."""

    STRANDED = "stranded"
    """It ended an engine already, and there is no endpoint left that it did not try."""
    UNROUTED = "unrouted"
    """Its model left the route table."""
    DISPLACED = "displaced"
    """The room was full, its caller had most in it, and somebody else came."""
    LATE = "late"
    """Its client will have given up before there is an answer."""


class Asking(Protocol[E_contra]):
    """A request that wants an endpoint. `tried` holds the uids on which an attempt was spent."""

    number: int
    turn: int
    tried: set[str]
    give_up_at: float
    """From then on it is not worth starting."""
    revision: str | None
    """Only endpoints of this revision will do; None where any will."""

    def is_deadly(self) -> bool:
        """Whether an engine ended over it already."""

    def granted(self, endpoint: E_contra) -> None:
        """The endpoint is reserved for it; `release` must follow."""

    def sent_away(self, away: Away) -> None:
        """It waits no longer, and nothing is reserved for it."""

    def standing(self) -> Standing:
        """In whose line it waits."""


class Dispatcher(Generic[E]):
    """The line and the endpoints of one model."""

    def __init__(
        self,
        route: ModelRoute,
        make_endpoint: Callable[[ModelRoute, Endpoint], E],
        clock: Callable[[], float],
        random: Callable[[], float],
        call_at: Callable[[float, Callable[[], None]], None],
    ) -> None:
        self.route = route
        self.limit = route.queue.max_in_flight_per_replica
        self.endpoints: tuple[E, ...] = ()
        self.in_flight = 0
        self.asked = 0
        self.room: WaitingRoom[Asking[E]] = WaitingRoom()
        self._make_endpoint = make_endpoint
        self._clock = clock
        self._random = random
        self._call_at = call_at
        self._claims: Claims | None = None
        self._alarm: float | None = None
        self._is_closed = False
        self._turns = 0
        self._leaving: set[E] = set()
        self.update(route)

    def update(self, route: ModelRoute) -> None:
        """Another snapshot: new endpoints come in, missing ones retire, the limits are the new ones."""
        self.route = route
        self.limit = route.queue.max_in_flight_per_replica
        known = {_place(endpoint.facts): endpoint for endpoint in (*self._leaving, *self.endpoints)}
        now_there: dict[str, E] = {}
        for facts in route.endpoints:
            endpoint = known.get(_place(facts)) or self._new_endpoint(route, facts)
            if endpoint.gone:
                self._leaving.discard(endpoint)
                endpoint.come_back()
            now_there[facts.uid] = endpoint
        for endpoint in self.endpoints:
            if now_there.get(endpoint.uid) is not endpoint:
                endpoint.retire()
                if endpoint.in_flight:
                    self._leaving.add(endpoint)
        self.endpoints = tuple(now_there.values())
        self._send_stranded_away()
        self.wake()

    def share(self, claims: Claims | None) -> None:
        """Callers wait at other gateways, too (None: they do not): the places are divided, until other news comes."""
        if claims is None and self._claims is None:
            return
        self._claims = claims
        self.wake()

    def callers(self) -> dict[str, int]:
        """Who waits here for a place, by priority; nobody where no endpoint can be reached, whoever has places."""
        if not self.room or all(endpoint.health.is_out for endpoint in self.endpoints):
            return {}
        return self.room.callers()

    def close(self) -> None:
        """The model is gone: nobody waits for it any more."""
        self._is_closed = True
        for endpoint in self.endpoints:
            endpoint.retire()
        self.endpoints = ()
        for ticket in list(self.room):
            self.room.leave(ticket)
            ticket.sent_away(Away.UNROUTED)

    def ask(self, ticket: Asking[E]) -> E | Admission:
        """An endpoint, reserved for a new request; or whether it waits now, or finds the room full."""
        now = self._clock()
        self.asked += 1
        if (not self.room or self._nobody_is_before()) and self._free() > 0:
            endpoint = balancing.pick(self.endpoints, ticket.tried, self.limit, now, self._random)
            if endpoint is not None:
                self._turns += 1
                ticket.turn = self._turns
                self._reserve(endpoint)
                return endpoint
        admission = self.room.admission(ticket, self.route.queue.max_waiting)
        if admission is Admission.FULL:
            return admission
        if admission is Admission.INSTEAD:
            displaced = self.room.newest_of_the_longest()
            self.room.leave(displaced)
            displaced.sent_away(Away.DISPLACED)
        self.room.join(ticket)
        self._set_alarm(now)
        return Admission.WAIT

    def ask_again(self, ticket: Asking[E], endpoint: E) -> None:
        """Give the endpoint back and stand at the old place; whoever stands there first is served first."""
        if self._is_closed:
            self.release(endpoint)
            ticket.sent_away(Away.UNROUTED)
        elif self._is_stranded(ticket):
            self.release(endpoint)
            ticket.sent_away(Away.STRANDED)
        else:
            self.room.come_back(ticket)
            self.release(endpoint)

    def release(self, endpoint: E) -> None:
        """A request is through with its endpoint: the next may go."""
        endpoint.in_flight -= 1
        self.in_flight -= 1
        if endpoint.gone and not endpoint.in_flight:
            self._leaving.discard(endpoint)
        if self.room:
            self.wake()

    def leave(self, ticket: Asking[E]) -> None:
        """A waiting request goes without being served."""
        self.room.leave(ticket)

    def has_untried(self, tried: set[str], revision: str | None = None) -> bool:
        """Whether the route has an endpoint (of this revision) on which no attempt was spent."""
        return any(endpoint.uid not in tried for endpoint in self._of_revision(revision))

    def wake(self) -> None:
        """Send as many as there is room for, by turns, and not one more."""
        if not self.room:
            return
        now = self._clock()
        grants: list[tuple[Asking[E], E]] = []
        late: list[Asking[E]] = []
        free = self._free()
        if self._serve_returned(now, free, grants, late):
            self._serve_lines(now, free, grants, late)
        self._set_alarm(now)
        for ticket, endpoint in grants:
            ticket.granted(endpoint)
        for ticket in late:
            ticket.sent_away(Away.LATE)

    def in_flight_by_replica(self) -> Mapping[str, int]:
        """What runs where, also on endpoints that are no longer in the table."""
        counts: dict[str, int] = {}
        for endpoint in (*self.endpoints, *self._leaving):
            if endpoint.in_flight:
                counts[endpoint.facts.replica] = counts.get(endpoint.facts.replica, 0) + endpoint.in_flight
        return counts

    def _new_endpoint(self, route: ModelRoute, facts: Endpoint) -> E:
        endpoint = self._make_endpoint(route, facts)
        endpoint.changed = self._look_again
        return endpoint

    def _look_again(self) -> None:
        """An endpoint's trial is over, and the request that tried it may run for long, or be gone."""
        if self.room:
            self._call_at(self._clock(), self.wake)

    def _nobody_is_before(self) -> bool:
        """Whether all who wait had a turn and want nothing of what is free: the ends of others might be far away."""
        if self.room.has_lines:
            return False
        self.wake()
        return True

    def _free(self) -> int:
        """How many more may be sent, for all that is known of other gateways."""
        claims = self._claims
        if claims is None:
            return _ALL
        places = held = 0
        for endpoint in self.endpoints:
            if not endpoint.health.is_out:
                places += self.limit
                held += endpoint.in_flight
        return sharing.most(places, claims) - held

    def _serve_returned(self, now: float, free: int, grants: list[tuple[Asking[E], E]], late: list[Asking[E]]) -> bool:
        """Who had a turn already. Whether there may be room for others: one of these may not want what is free."""
        for ticket in self.room.returned():
            if ticket.give_up_at <= now:
                self.room.leave(ticket)
                late.append(ticket)
                continue
            if len(grants) >= free:
                return False
            candidates = self._of_revision(ticket.revision)
            endpoint = balancing.pick(candidates, ticket.tried, self.limit, now, self._random)
            if endpoint is not None:
                self._reserve(endpoint)
                self.room.leave(ticket)
                grants.append((ticket, endpoint))
            elif not any(other.in_flight < self.limit and other.health.is_open(now) for other in self.endpoints):
                return False
        return True

    def _serve_lines(self, now: float, free: int, grants: list[tuple[Asking[E], E]], late: list[Asking[E]]) -> None:
        """Who had none: they tried nothing yet, so that any endpoint will do."""
        while (ticket := self.room.first()) is not None:
            if ticket.give_up_at <= now:
                self.room.leave(ticket)
                late.append(ticket)
                continue
            if len(grants) >= free:
                return
            endpoint = balancing.pick(self.endpoints, ticket.tried, self.limit, now, self._random)
            if endpoint is None:
                return
            self._reserve(endpoint)
            self.room.take(ticket)
            self._turns += 1
            ticket.turn = self._turns
            grants.append((ticket, endpoint))

    def _is_stranded(self, ticket: Asking[E]) -> bool:
        return ticket.is_deadly() and not self.has_untried(ticket.tried, ticket.revision)

    def _send_stranded_away(self) -> None:
        """The last endpoint that they did not try may just have gone."""
        for ticket in self.room.returned():
            if self._is_stranded(ticket):
                self.room.leave(ticket)
                ticket.sent_away(Away.STRANDED)

    def _of_revision(self, revision: str | None) -> Sequence[E]:
        if revision is None:
            return self.endpoints
        return [endpoint for endpoint in self.endpoints if endpoint.facts.revision == revision]

    def _reserve(self, endpoint: E) -> None:
        endpoint.in_flight += 1
        self.in_flight += 1
        endpoint.health.begin()

    def _set_alarm(self, now: float) -> None:
        """Look again when the first skipped endpoint may be asked; a release or a new table wakes by itself.

        `now` is the moment at which the endpoints were looked at: one that opens a moment later must not be missed.
        """
        if not self.room:
            return
        times = [
            endpoint.health.skip_until
            for endpoint in self.endpoints
            if endpoint.health.skip_until > now and not endpoint.health.on_trial
        ]
        if not times:
            return
        at = min(times)
        if self._alarm is None or at < self._alarm or self._alarm <= now:
            self._alarm = at
            self._call_at(at, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self.wake()


def _place(facts: Endpoint) -> tuple[str, str, int]:
    return (facts.uid, facts.host, facts.port)
