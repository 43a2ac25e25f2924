"""Whose turn it is among classes of priority: by weight, evenly spread, and nobody starves."""

from collections import Counter
from itertools import combinations
from random import Random

import pytest

from shoal_api.keys import Priority
from shoal_serving.gateway.turns import WEIGHTS, Credit, next_class

ALL: tuple[Priority, ...] = ("high", "normal", "low")
ROUND = sum(WEIGHTS.values())


def turns_of(waiting: tuple[Priority, ...], count: int, credit: Credit | None = None) -> list[Priority]:
    credit, found = credit or {}, []
    for _ in range(count):
        chosen, credit = next_class(waiting, credit)
        found.append(chosen)
    return found


@pytest.mark.parametrize(
    ("waiting", "initials"),
    [
        (("low",), "lllll"),
        (("high", "normal"), "hhnhhhhnhh"),
        (("normal", "low"), "nnlnnnnlnn"),
        (("high", "low"), "hhhhhhhhlhhhhhhhh"),
        (ALL, "hhnhhhhnhhlhhhnhhhnhh"),
    ],
)
def test_the_first_turns(waiting: tuple[Priority, ...], initials: str) -> None:
    assert "".join(each[0] for each in turns_of(waiting, len(initials))) == initials


@pytest.mark.parametrize("waiting", [some for size in (1, 2, 3) for some in combinations(ALL, size)])
def test_each_round_gives_each_class_its_weight(waiting: tuple[Priority, ...]) -> None:
    size = sum(WEIGHTS[each] for each in waiting)
    order = turns_of(waiting, 10 * size)
    for begin in range(0, len(order), size):
        assert Counter(order[begin : begin + size]) == {each: WEIGHTS[each] for each in waiting}


def test_whoever_comes_and_goes_a_class_that_waits_all_the_time_has_one_of_any_21_turns() -> None:
    for seed in range(30):
        chance = Random(seed)
        credit: Credit = {}
        longest = dict.fromkeys(ALL, 0)
        since = dict.fromkeys(ALL, 0)
        present = set(ALL)
        for _ in range(3000):
            for each in ALL:
                if chance.random() < 0.2:
                    present ^= {each}
            waiting = tuple(each for each in ALL if each in present)
            if not waiting:
                continue
            chosen, credit = next_class(waiting, credit)
            for each in ALL:
                since[each] = since[each] + 1 if each in present and each != chosen else 0
                longest[each] = max(longest[each], since[each])
        assert max(longest.values()) < ROUND, seed


def test_a_class_in_which_nobody_waits_saves_nothing_up() -> None:
    _, credit = next_class(("high", "low"), {})
    _, credit = next_class(("high",), credit)
    assert turns_of(("high", "low"), 9, credit) == turns_of(("high", "low"), 9)
