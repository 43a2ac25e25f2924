"""Whether a rollout may put a replica beside the old ones: the classes as a table, the turns as a story."""

from datetime import timedelta

import pytest

from replicas import T0
from shoal_api.rollout import RolloutStrategy
from shoal_operator import surging
from shoal_operator.surging import Classes, Manner, PriorityClass, Surge, Turns

AUTO, SURGE, DELETE_FIRST = RolloutStrategy.AUTO, RolloutStrategy.SURGE, RolloutStrategy.DELETE_FIRST
POLITE = PriorityClass(0, never_preempts=True)
KNOWN = {
    "lent": POLITE,
    "polite": PriorityClass(1000, never_preempts=True),
    "rude": PriorityClass(1000, never_preempts=False),
}
FIRST = Manner(surge=False)


@pytest.mark.parametrize(
    ("strategy", "own", "lent", "classes", "expected"),
    [
        (AUTO, "", "lent", KNOWN, Manner(surge=True, makes_way=True, priority_class="lent")),
        (AUTO, "", "lent", None, Manner(surge=True, makes_way=True, priority_class="lent")),
        (AUTO, "polite", "lent", KNOWN, Manner(surge=True, makes_way=True)),
        (AUTO, "rude", "lent", KNOWN, FIRST),
        (AUTO, "unknown", "lent", KNOWN, FIRST),
        (AUTO, "polite", "lent", None, FIRST),
        (AUTO, "", "", KNOWN, FIRST),
        (AUTO, "", "gone", KNOWN, FIRST),
        (AUTO, "", "rude", KNOWN, FIRST),
        (AUTO, "", "polite", KNOWN, FIRST),
        (SURGE, "", "lent", KNOWN, Manner(surge=True, priority_class="lent")),
        (SURGE, "", "rude", KNOWN, Manner(surge=True)),
        (SURGE, "", "", KNOWN, Manner(surge=True)),
        (SURGE, "rude", "lent", KNOWN, Manner(surge=True)),
        (DELETE_FIRST, "polite", "lent", KNOWN, FIRST),
    ],
)
def test_who_may_stand_beside_the_old_ones_and_under_which_class(
    strategy: RolloutStrategy, own: str, lent: str, classes: Classes | None, expected: Manner
) -> None:
    found = surging.manner(strategy, own, lent, classes)

    assert (found.surge, found.makes_way, found.priority_class) == (
        expected.surge,
        expected.makes_way,
        expected.priority_class,
    )
    assert bool(found.because) == (strategy is AUTO and not found.surge), "what the owner left open is explained"


@pytest.mark.parametrize(("usual", "surges"), [(0, False), (1000, True)])
def test_a_class_that_is_worth_less_than_none_for_life_is_not_lent(usual: int, surges: bool) -> None:
    classes = {"lent": PriorityClass(1000, never_preempts=True), "usual": PriorityClass(usual, False, is_default=True)}

    found = surging.manner(AUTO, "", "lent", classes)

    assert found.surge is surges
    assert surges or "1000 for life, others 0" in found.because


GPU, OTHER = ("nvidia.com/gpu", ()), ("amd.com/gpu", ())


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


@pytest.mark.parametrize(
    ("surge", "is_rival"),
    [
        (Surge("team/a", GPU, T0 + seconds(1)), True),
        (Surge("team/b", GPU, T0 + seconds(1)), False),
        (Surge("team/a", OTHER, T0 + seconds(1)), False),
        (Surge("team/a", GPU, T0), False),
    ],
    ids=["another's", "our own", "of another pool", "over"],
)
def test_one_model_of_a_pool_surges_at_a_time(surge: Surge, is_rival: bool) -> None:
    assert (surging.rival("team/b", GPU, [surge], T0) is not None) is is_rival


def test_a_turn_is_taken_before_its_replica_is_seen_and_not_for_long() -> None:
    turns = Turns()
    turns.claim("team/a", GPU, T0)

    now, later = T0 + seconds(1), T0 + seconds(surging.CLAIM_SECONDS)

    assert surging.rival("team/b", GPU, turns.known([], now), now) is not None
    assert surging.rival("team/a", GPU, turns.known([], now), now) is None
    assert surging.rival("team/b", GPU, turns.known([], later), later) is None
