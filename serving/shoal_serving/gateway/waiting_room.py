"""Where requests wait for an endpoint: callers take turns, each one's requests in order, all within bounds."""

from bisect import insort
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import Generic, Protocol, TypeVar

from shoal_api.keys import Priority
from shoal_serving.gateway import turns
from shoal_serving.gateway.turns import Credit


@dataclass(frozen=True, slots=True)
class Standing:
    """In whose line a request waits, and in which class that line is."""

    caller: str
    priority: Priority = "normal"


class Ticket(Protocol):
    """A request that waits. `number` counts the arrivals at the gateway, `turn` the turns that were given (0: none)."""

    number: int
    turn: int

    def standing(self) -> Standing:
        """Asked when it joins."""


T = TypeVar("T", bound=Ticket)
_TURN = attrgetter("turn")


class Admission(StrEnum):
    """Whether a request is let in to wait."""

    WAIT = "Wait"
    INSTEAD = "Instead"
    """In the place of the newest request of the caller that has most of them in the room."""
    FULL = "Full"


def admit(waiting: int, most: int, own: int, longest: int) -> Admission:
    """Let another one in where fewer than `most` wait. One that comes back to its old place is not asked.

    So that one caller alone cannot fill the room, who has most in it (`longest`) gives way to a caller who would have
    fewer even with this one (`own` without it).
    """
    if waiting < most:
        return Admission.WAIT
    return Admission.INSTEAD if own + 1 < longest else Admission.FULL


@dataclass(slots=True)
class ByteBudget:
    """The bytes of request bodies that the process holds, over all models, and their bound."""

    most: int
    held: int = 0

    def take(self, size: int) -> bool:
        """Count `size` more bytes, or refuse."""
        if self.held + size > self.most:
            return False
        self.held += size
        return True

    def give_back(self, size: int) -> None:
        """The bytes are free again."""
        self.held -= size


class CallerLine(Generic[T]):
    """What one caller has waiting, in order of arrival."""

    __slots__ = ("caller", "priority", "tickets")

    def __init__(self, caller: str, priority: Priority) -> None:
        self.caller = caller
        self.priority = priority
        self.tickets: OrderedDict[int, T] = OrderedDict()


class WaitingRoom(Generic[T]):
    """Who waits for one model at one gateway. Nothing here takes longer the more of them there are.

    Who had a turn already and comes back (a replica was busy, or failed) goes first, in the order of those turns. Of
    the others a class has the turn by its weight, in it the callers one after the other, of a caller who came first.
    """

    __slots__ = ("_by_length", "_credit", "_line_of", "_lines", "_longest", "_returned", "_rings")

    def __init__(self) -> None:
        self._returned: list[T] = []
        self._lines: dict[str, CallerLine[T]] = {}
        self._line_of: dict[int, CallerLine[T]] = {}
        """By the number of a request that had no turn yet."""
        self._rings: dict[Priority, OrderedDict[str, CallerLine[T]]] = {each: OrderedDict() for each in turns.WEIGHTS}
        """The lines of each class; the first one is next."""
        self._credit: Credit = {}
        self._by_length: dict[int, dict[str, CallerLine[T]]] = {}
        self._longest = 0

    def __len__(self) -> int:
        return len(self._line_of) + len(self._returned)

    @property
    def has_lines(self) -> bool:
        """Whether somebody waits who had no turn yet."""
        return bool(self._lines)

    def __iter__(self) -> Iterator[T]:
        """All who wait: who comes back first, then line by line. Do not change the room meanwhile."""
        yield from self._returned
        for line in self._lines.values():
            yield from line.tickets.values()

    def admission(self, ticket: T, most: int) -> Admission:
        """Whether it may join, where at most so many may wait."""
        if len(self) < most:
            return Admission.WAIT
        line = self._lines.get(ticket.standing().caller)
        return admit(len(self), most, len(line.tickets) if line is not None else 0, self._longest)

    def join(self, ticket: T) -> None:
        """Stand at the end of the own caller's line; a caller with none begins one, behind all others of the class."""
        standing = ticket.standing()
        caller, priority = standing.caller, standing.priority
        line = self._lines.get(caller)
        if line is None:
            self._lines[caller] = line = CallerLine(caller, priority)
            self._rings[priority][caller] = line
        elif line.priority != priority:  # the key has another one by now, and it counts for all of them
            del self._rings[line.priority][caller]
            line.priority = priority
            self._rings[priority][caller] = line
        line.tickets[ticket.number] = ticket
        self._line_of[ticket.number] = line
        self._note_length(line, 1)

    def come_back(self, ticket: T) -> None:
        """Stand again where it stood when it had its turn."""
        insort(self._returned, ticket, key=_TURN)

    def callers(self) -> dict[str, int]:
        """How many callers wait, by priority; who only comes back counts, too."""
        known: dict[str, str] = {line.caller: line.priority for line in self._lines.values()}
        for ticket in self._returned:
            standing = ticket.standing()
            known.setdefault(standing.caller, standing.priority)
        counts: dict[str, int] = {}
        for priority in known.values():
            counts[priority] = counts.get(priority, 0) + 1
        return counts

    def returned(self) -> list[T]:
        """Who came back, in order."""
        return self._returned.copy()

    def first(self) -> T | None:
        """Who is next of those who had no turn yet."""
        if not self._lines:
            return None
        chosen, _ = turns.next_class(self._waiting_classes(), self._credit)
        line = next(iter(self._rings[chosen].values()))
        return next(iter(line.tickets.values()))

    def take(self, ticket: T) -> None:
        """The first has its turn: its caller's next one comes after one of every other caller in the class."""
        line = self._line_of[ticket.number]
        _, self._credit = turns.next_class(self._waiting_classes(), self._credit)
        self._rings[line.priority].move_to_end(line.caller)
        self.leave(ticket)

    def newest_of_the_longest(self) -> T:
        """Who gives way in a full room."""
        line = next(iter(self._by_length[self._longest].values()))
        return next(reversed(line.tickets.values()))

    def leave(self, ticket: T) -> None:
        """Go: served, refused, or gone."""
        line = self._line_of.pop(ticket.number, None)
        if line is None:
            self._returned.remove(ticket)
            return
        del line.tickets[ticket.number]
        self._note_length(line, -1)
        if not line.tickets:
            del self._lines[line.caller]
            del self._rings[line.priority][line.caller]

    def _waiting_classes(self) -> list[Priority]:
        return [each for each, ring in self._rings.items() if ring]

    def _note_length(self, line: CallerLine[T], by: int) -> None:
        """A line is longer or shorter by one."""
        length = len(line.tickets)
        before = length - by
        if before:
            alike = self._by_length[before]
            del alike[line.caller]
            if not alike:
                del self._by_length[before]
        if length:
            self._by_length.setdefault(length, {})[line.caller] = line
        if length > self._longest or (before == self._longest and before not in self._by_length):
            self._longest = length
