"""Where requests wait for an endpoint, in the order of their arrival, within bounds of count and bytes."""

from bisect import insort
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from heapq import merge
from operator import attrgetter
from typing import Generic, Protocol, TypeVar


class Ticket(Protocol):
    """A request that waits. `number` counts the arrivals at the gateway."""

    number: int


T = TypeVar("T", bound=Ticket)
_NUMBER = attrgetter("number")


class Admission(StrEnum):
    """Whether a request is let in to wait."""

    WAIT = "Wait"
    FULL = "Full"


def admit(waiting: int, most: int) -> Admission:
    """Let another one in where fewer than `most` wait. One that comes back to its old place is not asked."""
    return Admission.WAIT if waiting < most else Admission.FULL


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


class WaitingRoom(Generic[T]):
    """The line of one model at one gateway. Whoever comes back after a try stands where they stood before."""

    __slots__ = ("_arrived", "_returned")

    def __init__(self) -> None:
        self._arrived: OrderedDict[int, T] = OrderedDict()
        self._returned: list[T] = []

    def __len__(self) -> int:
        return len(self._arrived) + len(self._returned)

    def __iter__(self) -> Iterator[T]:
        """All who wait, in the order of arrival. Do not change the room meanwhile."""
        if not self._returned:
            return iter(self._arrived.values())
        return merge(self._returned, self._arrived.values(), key=_NUMBER)

    def join(self, ticket: T) -> None:
        """Stand at the place that the number gives; for a new arrival that is the end."""
        if self._arrived and next(reversed(self._arrived)) > ticket.number:
            insort(self._returned, ticket, key=_NUMBER)
        else:
            self._arrived[ticket.number] = ticket

    def leave(self, ticket: T) -> None:
        """Go: served, refused, or gone."""
        if self._arrived.pop(ticket.number, None) is None:
            self._returned.remove(ticket)
