"""A canary stands beside the old revision until somebody promotes it: as a table, and as stories in a small world."""

from dataclasses import replace

import pytest

from builders import a_model
from replicas import PERMANENT, T0, SmallWorld, a_replica, desired
from shoal_api import labels
from shoal_operator import canary, planning
from shoal_operator.observed import Observed, ReplicaState, Revision
from shoal_operator.rollout import Desired

READY, STARTING = ReplicaState.READY, ReplicaState.STARTING
OLD, NEW = Revision("old", proven=True), Revision("new", canary=True)
MANNERS = {
    "surge": {"surge": True, "makes_way": True, "is_scheduled": True},
    "delete-first": {"is_scheduled": True},
    "one-machine": {},
}


def wish(count: int, manner: str, canaries: int = 1, revision: str = "new") -> Desired:
    return replace(desired(count, revision=revision), canaries=canaries, **MANNERS[manner])


def counts(world: SmallWorld) -> dict[str, int]:
    return {name: sum(r.revision == name and r.state is READY for r in world.replicas) for name in ("old", "new")}


@pytest.mark.parametrize(
    ("wanted", "canaries", "new", "old"),
    [(1, 1, 1, 1), (2, 1, 1, 1), (3, 1, 1, 2), (3, 2, 2, 1), (3, 9, 2, 1), (10, 3, 3, 7)],
)
def test_one_old_replica_stays_in_any_case(wanted: int, canaries: int, new: int, old: int) -> None:
    assert canary.counts(wish(wanted, "surge", canaries)) == (new, old)


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize(("wanted", "canaries"), [(1, 1), (2, 1), (3, 1), (4, 2)])
def test_a_canary_waits_beside_the_old_ones_and_takes_over_when_it_is_promoted(
    manner: str, wanted: int, canaries: int
) -> None:
    world = SmallWorld(canaries=frozenset({"new"}))
    world.settle(wish(wanted, manner, revision="old"))
    world.history.clear()

    world.settle(wish(wanted, manner, canaries))
    new, old = canary.counts(wish(wanted, manner, canaries))
    assert counts(world) == {"old": old, "new": new}
    assert canary.is_up(wish(wanted, manner, canaries), world.observed(wish(wanted, manner, canaries)))

    world.promote("new")
    world.settle(wish(wanted, manner, canaries))
    assert counts(world) == {"old": 0, "new": wanted}
    assert min(ready for _, ready in world.history) >= (wanted if manner == "surge" else wanted - 1)


@pytest.mark.parametrize("manner", MANNERS)
def test_a_canary_that_cannot_start_leaves_the_old_ones_as_they_were(manner: str) -> None:
    world = SmallWorld(canaries=frozenset({"new"}), cannot_start=frozenset({"new"}))
    world.settle(wish(3, manner, revision="old"))

    world.settle(wish(3, manner))

    assert counts(world) == {"old": 3, "new": 0}


def test_a_canary_that_worked_and_then_gave_up_is_replaced_by_the_old_revision() -> None:
    known = (OLD, replace(NEW, proven=True, fault=PERMANENT))
    there = (a_replica("a", revision="old"), a_replica("b", revision="old"))

    plan = planning.make(wish(3, "surge"), Observed(there, known), T0)

    assert [new.revision for new in plan.create] == ["old"]


@pytest.mark.parametrize("manner", MANNERS)
def test_an_edit_back_takes_the_canary_away_without_making_a_canary_of_the_old_one(manner: str) -> None:
    world = SmallWorld(canaries=frozenset({"new"}))
    world.settle(wish(3, manner, revision="old"))
    world.settle(wish(3, manner))

    world.settle(wish(3, manner, revision="old"))

    assert counts(world) == {"old": 3, "new": 0}


def test_a_canary_without_room_makes_an_old_one_go_only_where_another_stays() -> None:
    for wanted, left in ((1, {"old": 1, "new": 0}), (3, {"old": 2, "new": 1})):
        world = SmallWorld(canaries=frozenset({"new"}), rooms=wanted)
        world.settle(wish(wanted, "surge", revision="old"))
        world.run(wish(wanted, "surge"), rounds=40)

        assert counts(world) == left


def test_what_is_left_of_an_earlier_canary_goes_when_the_next_one_is_there() -> None:
    known = (OLD, Revision("second", proven=True, canary=True), NEW)
    there = tuple(a_replica(name, revision=name[:-1]) for name in ("old0", "old1", "second0"))
    starts = a_replica("new0", STARTING, age=5)

    waits = planning.make(wish(4, "delete-first"), Observed((*there, starts), known), T0)
    goes_on = planning.make(wish(4, "delete-first"), Observed((*there, a_replica("new0")), known), T0)

    assert not waits.changes_something, "one ready replica is missing already"
    assert goes_on.delete == ("second0",)


@pytest.mark.parametrize("manner", MANNERS)
def test_a_model_at_zero_comes_back_with_its_canary_and_goes_again(manner: str) -> None:
    world = SmallWorld(canaries=frozenset({"new"}))
    world.settle(wish(1, manner, revision="old"))
    for wanted, there in ((0, {"old": 0, "new": 0}), (1, {"old": 1, "new": 1})):
        world.settle(wish(wanted, manner))
        assert counts(world) == there


@pytest.mark.parametrize(
    ("asked", "known", "begins"),
    [(True, (OLD,), True), (False, (OLD,), False), (True, (), False), (True, (Revision("old"),), False)],
)
def test_a_revision_begins_as_a_canary_beside_one_that_worked(
    asked: bool, known: tuple[Revision, ...], begins: bool
) -> None:
    md = a_model(rollout={"canary": {"replicas": 1}} if asked else {})

    assert canary.begins(md, known) is begins


@pytest.mark.parametrize(
    ("asked", "promoted", "is_over"), [(True, "", False), (True, "old", False), (True, "new", True), (False, "", True)]
)
def test_a_canary_is_over_when_its_very_revision_is_promoted_or_nobody_asks_for_one(
    asked: bool, promoted: str, is_over: bool
) -> None:
    md = a_model(
        metadata={"annotations": {labels.PROMOTED: promoted}}, rollout={"canary": {"replicas": 1}} if asked else {}
    )

    assert canary.is_over(md, "new") is is_over
