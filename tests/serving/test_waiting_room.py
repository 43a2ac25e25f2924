"""In the order of arrival, and back to the old place after a try."""

from dataclasses import dataclass
from random import Random

from shoal_serving.gateway.waiting_room import Admission, ByteBudget, WaitingRoom, admit


@dataclass(eq=False)
class Ticket:
    number: int


def numbers(room: WaitingRoom[Ticket]) -> list[int]:
    return [ticket.number for ticket in room]


def test_order_is_that_of_arrival_whoever_leaves_and_comes_back() -> None:
    chance, room = Random(1), WaitingRoom[Ticket]()
    inside: dict[int, Ticket] = {}
    outside: list[Ticket] = []
    for number in range(400):
        inside[number] = Ticket(number)
        room.join(inside[number])
        if chance.random() < 0.4:
            gone = inside.pop(chance.choice(list(inside)))
            room.leave(gone)
            outside.append(gone)
        if outside and chance.random() < 0.5:
            back = outside.pop(chance.randrange(len(outside)))
            inside[back.number] = back
            room.join(back)
        assert numbers(room) == sorted(inside)
        assert len(room) == len(inside)


def test_an_empty_room_is_false_and_takes_anybody() -> None:
    room = WaitingRoom[Ticket]()
    assert not room
    late, early = Ticket(9), Ticket(2)
    room.join(late)
    room.join(early)
    assert numbers(room) == [2, 9]
    room.leave(early)
    room.leave(late)
    assert not room


def test_as_many_wait_as_may() -> None:
    assert admit(0, 0) is Admission.FULL
    assert admit(9, 10) is Admission.WAIT
    assert admit(10, 10) is Admission.FULL


def test_bytes_are_counted_over_all() -> None:
    budget = ByteBudget(100)
    assert budget.take(60)
    assert budget.take(40)
    assert not budget.take(1)
    budget.give_back(60)
    assert budget.take(1)
    assert budget.held == 41
