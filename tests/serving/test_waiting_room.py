"""Callers take turns, each one's requests in order, and who comes back from a try stands where it stood."""

from collections import Counter
from dataclasses import dataclass
from random import Random

import pytest

from shoal_api.keys import Priority
from shoal_serving.gateway.turns import WEIGHTS
from shoal_serving.gateway.waiting_room import Admission, ByteBudget, Standing, WaitingRoom, admit


@dataclass(eq=False)
class Ticket:
    number: int
    caller: str = "a"
    priority: Priority = "normal"
    turn: int = 0

    def standing(self) -> Standing:
        return Standing(self.caller, self.priority)


Room = WaitingRoom[Ticket]


def a_room(*lines: tuple[str, int]) -> Room:
    """So many requests of each caller, one caller after the other."""
    room, number = Room(), 0
    for caller, count in lines:
        for _ in range(count):
            number += 1
            room.join(Ticket(number, caller))
    return room


def serve(room: Room) -> Ticket | None:
    """The next one goes; as the dispatcher does it."""
    first = room.first()
    if first is not None:
        room.take(first)
    return first


def served(room: Room) -> list[Ticket]:
    found = []
    while (ticket := serve(room)) is not None:
        found.append(ticket)
    return found


@pytest.mark.parametrize(
    ("lines", "order"),
    [
        ([("a", 3)], "a1 a2 a3"),
        ([("a", 5), ("b", 2)], "a1 b6 a2 b7 a3 a4 a5"),
        ([("a", 3), ("b", 1), ("c", 2)], "a1 b4 c5 a2 c6 a3"),
    ],
)
def test_callers_take_turns_and_each_is_served_in_order(lines: list[tuple[str, int]], order: str) -> None:
    assert " ".join(f"{ticket.caller}{ticket.number}" for ticket in served(a_room(*lines))) == order


def test_two_hundred_of_one_caller_delay_five_of_another_by_five_turns() -> None:
    room = a_room(("a", 200))
    for _ in range(20):
        serve(room)
    for number in range(1000, 1005):
        room.join(Ticket(number, "b"))
    order = [ticket.caller for ticket in served(room)]
    assert order.index("b") <= 1
    assert order[:10].count("b") == 5


def test_a_caller_that_leaves_and_comes_again_gains_nothing() -> None:
    room = a_room(("a", 1), ("b", 2), ("c", 2))
    gone = serve(room)
    assert gone is not None
    room.join(Ticket(10, "a"))
    assert [ticket.caller for ticket in served(room)] == ["b", "c", "a", "b", "c"]


def test_a_higher_class_comes_first_and_a_lower_one_still_comes() -> None:
    room = Room()
    for number in range(300):
        priority: Priority = ("high", "normal", "low")[number % 3]
        room.join(Ticket(number, f"{priority} {number % 2}", priority))
    order = [ticket.priority for ticket in served(room)]
    assert order[0] == "high"
    assert Counter(order[:21]) == WEIGHTS
    assert Counter(order[:84]) == {each: 4 * weight for each, weight in WEIGHTS.items()}


def test_a_key_with_another_priority_takes_along_what_it_has_waiting() -> None:
    room = a_room(("a", 2), ("b", 3))
    room.join(Ticket(10, "b", "high"))
    order = [(ticket.caller, ticket.number) for ticket in served(room)]
    assert order[:4] == [("b", 3), ("b", 4), ("a", 1), ("b", 5)]
    assert [number for caller, number in order if caller == "b"] == [3, 4, 5, 10]


def test_who_comes_back_goes_before_all_others_in_the_order_of_turns() -> None:
    room = a_room(("a", 3), ("b", 3))
    tried = []
    for turn in range(1, 5):
        ticket = serve(room)
        assert ticket is not None
        ticket.turn = turn
        tried.append(ticket)
    for back in (tried[2], tried[0], tried[3], tried[1]):
        room.come_back(back)
    assert room.returned() == tried
    assert len(room) == 6
    room.leave(tried[1])
    assert room.returned() == [tried[0], tried[2], tried[3]]
    assert [(ticket.caller, ticket.number) for ticket in served(room)] == [("a", 3), ("b", 6)]


@pytest.mark.parametrize(
    ("waiting", "most", "own", "longest", "admission"),
    [
        (0, 0, 0, 0, Admission.FULL),
        (9, 10, 9, 9, Admission.WAIT),
        (10, 10, 10, 10, Admission.FULL),  # the one that fills the room
        (10, 10, 0, 10, Admission.INSTEAD),
        (10, 10, 4, 6, Admission.INSTEAD),
        (10, 10, 5, 5, Admission.FULL),
        (10, 10, 4, 5, Admission.FULL),  # both would only change places
        (10, 10, 0, 1, Admission.FULL),
        (12, 10, 0, 9, Admission.INSTEAD),  # the bound was lowered: not one more than there are
    ],
)
def test_who_fills_the_room_gives_way(waiting: int, most: int, own: int, longest: int, admission: Admission) -> None:
    assert admit(waiting, most, own, longest) is admission


def test_the_newest_of_who_has_most_gives_way() -> None:
    room = a_room(("a", 2), ("b", 5), ("c", 4))
    assert room.newest_of_the_longest().number == 7
    assert room.admission(Ticket(20, "b"), 11) is Admission.FULL
    assert room.admission(Ticket(20, "c"), 11) is Admission.FULL
    assert room.admission(Ticket(20, "a"), 11) is Admission.INSTEAD
    assert room.admission(Ticket(20, "d"), 11) is Admission.INSTEAD


def test_a_long_random_story_keeps_order_count_and_turns() -> None:
    """Against the plainest description: one caller's requests in order, nobody passed over, the longest line known."""
    for seed in range(20):
        chance, room = Random(seed), Room()
        inside: dict[int, Ticket] = {}
        back: list[Ticket] = []
        passed_over: Counter[str] = Counter()
        turn = 0
        for number in range(600):
            callers = sorted({ticket.caller for ticket in inside.values()})
            choice = chance.random()
            if choice < 0.5:
                caller = chance.choice("abcdef")
                inside[number] = Ticket(number, caller, {"a": "high", "f": "low"}.get(caller, "normal"))
                room.join(inside[number])
            elif choice < 0.6 and inside:
                room.leave(inside.pop(chance.choice(list(inside))))
            elif choice < 0.65 and back:
                room.leave(back.pop(chance.randrange(len(back))))
            elif inside:
                ticket = serve(room)
                assert ticket is not None
                assert ticket.number == min(n for n, other in inside.items() if other.caller == ticket.caller)
                for caller in callers:
                    passed_over[caller] = passed_over[caller] + 1 if caller != ticket.caller else 0
                    assert passed_over[caller] < sum(WEIGHTS.values()) * len(callers), "somebody starves"
                turn += 1
                ticket.turn = turn
                del inside[ticket.number]
                if chance.random() < 0.2:
                    room.come_back(ticket)
                    back = sorted([*back, ticket], key=lambda each: each.turn)
            for caller in set(passed_over) - {ticket.caller for ticket in inside.values()}:
                del passed_over[caller]
            assert room.returned() == back
            assert len(room) == len(inside) + len(back)
            assert sorted(ticket.number for ticket in room) == sorted([*inside, *(each.number for each in back)])
            if inside:
                lengths = Counter(ticket.caller for ticket in inside.values())
                newest = room.newest_of_the_longest()
                assert lengths[newest.caller] == max(lengths.values())
                assert newest.number == max(n for n, other in inside.items() if other.caller == newest.caller)
        for ticket in list(room):
            room.leave(ticket)
        assert not room
        assert room.first() is None


def test_bytes_are_counted_over_all() -> None:
    budget = ByteBudget(100)
    assert budget.take(60)
    assert budget.take(40)
    assert not budget.take(1)
    budget.give_back(60)
    assert budget.take(1)
    assert budget.held == 41
