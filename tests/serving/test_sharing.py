"""Places are divided between gateways as turns would be between their callers; nobody starves, none lies idle."""

from random import Random
from typing import Any

import pytest

from shoal_api.load import Claim, Claims
from shoal_serving.gateway.sharing import divided, most, parts


def claims(*there: tuple[int, dict[str, int]], own: int | None = 0) -> Claims:
    """Requests and callers of each gateway at which somebody waits."""
    return Claims(claims=[Claim(requests=requests, callers=callers) for requests, callers in there], own=own)


ONE = {"normal": 1}


@pytest.mark.parametrize(
    ("places", "there", "each"),
    [
        # one caller with two hundred here, one with five there: half of the places for each
        (4, [(200, ONE), (5, ONE)], [2, 2]),
        (16, [(200, ONE), (5, ONE)], [11, 5]),  # what the five do not need is not kept for them
        (4, [(200, ONE), (5, {"normal": 3})], [1, 3]),
        (4, [(200, {"normal": 30}), (5, ONE)], [3, 1]),  # one place for everybody who waits
        (5, [(9, ONE), (9, ONE)], [3, 2]),
        (4, [(9, ONE), (9, ONE), (9, ONE)], [2, 1, 1]),  # rounded up at every gateway, nothing would be left for one
        (2, [(9, ONE), (9, ONE), (9, ONE)], [1, 1, 1]),  # too few: the replica lets two of the three in
        (1, [(9, ONE), (9, ONE)], [1, 1]),
        (10, [(3, ONE), (2, ONE)], [8, 7]),  # nobody else wants it
        (21, [(99, {"high": 1}), (99, {"low": 200})], [20, 1]),  # 16 of 17, as turns
        (21, [(99, {"high": 1}), (99, {"normal": 1}), (99, {"low": 1})], [16, 4, 1]),
        (8, [(99, {"high": 1, "normal": 1}), (99, {"normal": 1})], [7, 1]),
    ],
)
def test_every_gateway_has_the_places_that_its_callers_would_have_had_turns(
    places: int, there: list[tuple[int, dict[str, int]]], each: list[int]
) -> None:
    assert [most(places, claims(*there, own=own)) for own in range(len(there))] == each


@pytest.mark.parametrize(
    ("places", "there", "left"),
    [
        (4, [(200, ONE)], 1),  # it may come back when one of its own waits, too
        (4, [(2, ONE)], 2),
        (9, [(2, ONE), (3, ONE)], 4),
        (4, [(5, {"urgent": 1})], 4),  # a class that this version does not know
        (4, [(0, ONE)], 4),
        (0, [(5, ONE)], 1),
    ],
)
def test_a_gateway_at_which_nobody_waits_leaves_the_others_what_they_want(
    places: int, there: list[tuple[int, dict[str, int]]], left: int
) -> None:
    assert most(places, claims(*there, own=None)) == left


def test_whatever_is_claimed_all_places_are_given_and_nobody_with_one_left_for_him_has_none() -> None:
    chance = Random(7)
    for _ in range(3000):
        count = chance.randint(1, 7)
        places = chance.choice([0, 1, 2, 3, 5, 16, 255, 4096])
        wanted = [chance.choice([0, 1, 2, 7, 300, 10_000]) for _ in range(count)]
        callers: list[Any] = [
            {each: chance.choice([0, 1, 3, 250]) for each in ("high", "normal", "low")} for _ in wanted
        ]
        shares = parts(callers)
        given = divided(places, shares, wanted)
        wants = [want if share else 0 for want, share in zip(wanted, shares, strict=True)]
        assert all(0 <= got <= want for got, want in zip(given, wants, strict=True))
        assert sum(given) == min(places, sum(wants)), (places, shares, wanted, given)
        if places >= sum(want > 0 for want in wants):
            assert all(got for got, want in zip(given, wants, strict=True) if want)
