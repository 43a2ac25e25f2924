"""The plan: each single step as a table, and whole stories in a small world where everything that is asked happens."""

import random
from dataclasses import replace
from datetime import timedelta

import pytest

from replicas import PASSING, PERMANENT, T0, SmallWorld, a_replica, desired
from shoal_api.conditions import Reason
from shoal_operator import planning
from shoal_operator.observed import Hindrance, Observed, Replica, ReplicaState, Revision
from shoal_operator.planning import Step
from shoal_operator.rollout import Desired

READY, STARTING, DRAINING, FAILED = (
    ReplicaState.READY,
    ReplicaState.STARTING,
    ReplicaState.DRAINING,
    ReplicaState.FAILED,
)
OLD, NEW_ONCE = Revision("old", proven=True), Revision("new", proven=True)
LONG = timedelta(seconds=60)


def replicas(*states: tuple[str, ReplicaState, str]) -> tuple[Replica, ...]:
    return tuple(a_replica(name, state, revision) for name, state, revision in states)


@pytest.mark.parametrize(
    ("there", "wanted", "created", "deleted", "step"),
    [
        ((), 0, 0, [], Step.NOTHING),
        ((), 3, 3, [], Step.SCALED_UP),
        ((("a", READY, "new"),), 1, 0, [], Step.NOTHING),
        ((("a", READY, "new"),), 3, 2, [], Step.SCALED_UP),
        ((("a", STARTING, "new"),), 1, 0, [], Step.NOTHING),
        ((("a", FAILED, "new"),), 1, 0, [], Step.NOTHING),
        ((("a", READY, "new"), ("b", READY, "new")), 0, 0, ["a", "b"], Step.SCALED_DOWN),
        ((("a", READY, "new"), ("b", STARTING, "new")), 1, 0, ["b"], Step.SCALED_DOWN),
        ((("a", READY, "new"), ("b", FAILED, "new")), 1, 0, ["b"], Step.SCALED_DOWN),
        ((("a", DRAINING, "new"),), 0, 0, [], Step.NOTHING),
    ],
)
def test_as_many_replicas_as_wanted_and_the_least_useful_go_first(
    there: tuple[tuple[str, ReplicaState, str], ...], wanted: int, created: int, deleted: list[str], step: Step
) -> None:
    plan = planning.make(desired(wanted), Observed(replicas(*there), (Revision("new", proven=True),)), T0)

    assert (len(plan.create), sorted(plan.delete), plan.step) == (created, deleted, step)
    assert bool(plan.because) == (step is not Step.NOTHING)


def test_of_equals_the_youngest_goes() -> None:
    there = (a_replica("old-timer", age=500), a_replica("newcomer", age=5), a_replica("middle", age=50))

    assert planning.make(desired(2), Observed(there), T0).delete == ("newcomer",)


@pytest.mark.parametrize(("surge", "created"), [(False, 0), (True, 1)])
def test_without_surge_the_room_of_a_draining_replica_is_not_free_yet(surge: bool, created: int) -> None:
    there = replicas(("qwen-new-0", DRAINING, "new"))

    plan = planning.make(desired(1, surge=surge), Observed(there), T0)

    assert len(plan.create) == created
    assert all(new.name != "qwen-new-0" for new in plan.create), "a name that is in use is not given twice"


def test_names_are_the_same_for_the_same_need() -> None:
    first, second = (planning.make(desired(3), Observed(), T0) for _ in range(2))

    assert first == second
    assert [new.name for new in first.create] == ["qwen-new-0", "qwen-new-1", "qwen-new-2"]


@pytest.mark.parametrize(
    ("there", "surge", "created", "deleted"),
    [
        # DeleteFirst: one makes room; the next step waits until it is gone and the new one answers
        ((("a", READY, "old"),), False, 0, ["a"]),
        ((("a", READY, "old"), ("b", READY, "old")), False, 0, ["b"]),
        ((("a", DRAINING, "old"), ("b", READY, "old")), False, 0, []),
        ((("b", READY, "old"),), False, 1, []),
        ((("b", READY, "old"), ("c", STARTING, "new")), False, 0, []),
        ((("b", READY, "old"), ("c", FAILED, "new")), False, 0, []),
        ((("b", READY, "old"), ("c", READY, "new")), False, 0, ["b"]),
        # what does not serve is missed by nobody
        ((("a", STARTING, "old"), ("b", READY, "old")), False, 0, ["a"]),
        ((("a", FAILED, "old"), ("b", STARTING, "old")), False, 0, ["a", "b"]),
        # Surge: one more than wanted while a new one starts
        ((("a", READY, "old"), ("b", READY, "old")), True, 1, []),
        ((("a", READY, "old"), ("b", READY, "old"), ("c", STARTING, "new")), True, 0, []),
        ((("a", READY, "old"), ("b", READY, "old"), ("c", READY, "new")), True, 1, ["b"]),
        ((("b", READY, "old"), ("c", READY, "new"), ("d", READY, "new")), True, 0, ["b"]),
    ],
)
def test_a_new_revision_replaces_the_old_one_by_one(
    there: tuple[tuple[str, ReplicaState, str], ...], surge: bool, created: int, deleted: list[str]
) -> None:
    wanted = 1 if len(there) == 1 and there[0][0] == "a" else 2

    plan = planning.make(desired(wanted, surge=surge), Observed(replicas(*there), (OLD, Revision("new"))), T0)

    assert (len(plan.create), sorted(plan.delete)) == (created, deleted)


def test_a_permanent_fault_is_not_repeated() -> None:
    dead = a_replica("a", FAILED, last_words=PERMANENT)
    known = (Revision("new", fault=PERMANENT),)

    plan = planning.make(desired(1), Observed((dead,), known), T0)
    after = planning.make(desired(1), Observed((), known), T0)

    assert plan.delete == ("a",)
    assert PERMANENT.sentence in plan.because
    assert after.create == ()


def test_a_passing_fault_is_left_to_the_supervisor() -> None:
    dead = a_replica("a", FAILED, last_words=PASSING)

    assert not planning.make(desired(1), Observed((dead,), (Revision("new"),)), T0).changes_something


@pytest.mark.parametrize("known", [(OLD, Revision("new")), (Revision("new"),)])
def test_what_starts_goes_on_though_no_other_can_be_made(known: tuple[Revision, ...]) -> None:
    """A quota lets in one of three."""
    seen = Observed((a_replica("a", STARTING),), known, obstacle=PASSING, not_now=frozenset({"new"}))

    assert not planning.make(desired(3), seen, T0).changes_something


def test_an_obstacle_keeps_the_old_revision_untouched() -> None:
    there = replicas(("a", READY, "old"))

    plan = planning.make(desired(1), Observed(there, (OLD, Revision("new")), obstacle=PERMANENT), T0)

    assert not plan.changes_something


@pytest.mark.parametrize(
    ("wish", "forgotten"), [(desired(1), ()), (desired(0), ("new",)), (desired(1, revision="other"), ("new",))]
)
def test_a_fault_is_forgotten_when_the_wish_changes(wish: Desired, forgotten: tuple[str, ...]) -> None:
    plan = planning.make(wish, Observed((), (Revision("new", fault=PERMANENT),)), T0)

    assert plan.forget == forgotten


def test_a_model_that_nobody_asks_for_comes_back_with_what_worked() -> None:
    """Going to zero by itself is no wish that the broken revision be tried again."""
    known = (OLD, Revision("new", fault=PERMANENT))
    at_rest = planning.make(replace(desired(0), asks_for_none=False), Observed((), known), T0)
    woken = planning.make(desired(1), Observed((), known), T0)

    assert not at_rest.changes_something
    assert [new.revision for new in woken.create] == ["old"]


def test_a_replica_that_hangs_while_starting_is_replaced_at_its_deadline() -> None:
    hanging = a_replica("a", STARTING, age=60)

    before = planning.make(desired(1, deadline=61), Observed((hanging,)), T0)
    at = planning.make(desired(1, deadline=60), Observed((hanging,)), T0)

    assert (before.delete, before.look_again_after) == ((), 1.0)
    assert at.delete == ("a",)


def test_a_revision_never_ready_by_its_deadline_is_given_up_for_the_old_one() -> None:
    there = (a_replica("a", READY, "old"), a_replica("b", FAILED, age=70, since=1, last_words=PASSING))

    plan = planning.make(desired(2, deadline=60), Observed(there, (OLD, Revision("new"))), T0)

    assert [given_up.revision for given_up in plan.give_up] == ["new"]
    assert plan.delete == ("b",)
    assert PASSING.sentence in plan.because


@pytest.mark.parametrize("surge", [False, True])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_an_edit_ends_with_the_new_revision_and_the_ready_count_never_falls_by_more_than_one(
    surge: bool, count: int
) -> None:
    world = SmallWorld()
    world.settle(desired(count, surge=surge, revision="old"))
    world.history.clear()

    world.settle(desired(count, surge=surge))

    assert [(r.revision, r.state) for r in world.replicas] == [("new", READY)] * count
    floor = count if surge else count - 1
    assert min(ready for _, ready in world.history) == floor
    assert max(there for there, _ in world.history) <= count + (2 if surge else 0)  # a new one, and one that drains


@pytest.mark.parametrize("surge", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_a_revision_that_cannot_start_ends_with_the_old_one_restored(surge: bool, count: int) -> None:
    world = SmallWorld(cannot_start=frozenset({"new"}))
    world.settle(desired(count, surge=surge, revision="old"))

    plans = world.settle(desired(count, surge=surge))

    assert [(r.revision, r.state) for r in world.replicas] == [("old", READY)] * count
    assert min(ready for _, ready in world.history[-len(plans) :]) >= (count if surge else count - 1)
    assert sum(new.revision == "new" for plan in plans for new in plan.create) == 1, "tried once"


@pytest.mark.parametrize(("rooms", "least_ready"), [(4, 3), (3, 2)])
def test_on_a_cluster_an_edit_surges_and_where_no_room_is_one_old_replica_at_a_time_makes_way(
    rooms: int, least_ready: int
) -> None:
    on_a_cluster = {"surge": True, "makes_way": True, "is_scheduled": True}
    world = SmallWorld(rooms=rooms)
    world.settle(replace(desired(3, revision="old"), **on_a_cluster))
    world.history.clear()
    wish = replace(desired(3), **on_a_cluster)

    for _ in range(80):
        world.apply(planning.make(wish, world.observed(wish), world.now))
        world.history.append((len(world.replicas), sum(r.state is READY for r in world.replicas)))

    assert [(r.revision, r.state) for r in world.replicas] == [("new", READY)] * 3
    assert min(ready for _, ready in world.history) == least_ready


def test_edit_in_the_middle_of_a_rollout_goes_to_the_last_wish() -> None:
    world = SmallWorld()
    world.settle(desired(3, revision="old"))
    for wish in (desired(3, revision="middle"), desired(3)):
        for _ in range(4):
            world.apply(planning.make(wish, world.observed(wish), world.now))

    world.settle(desired(3))

    assert [r.revision for r in world.replicas] == ["new"] * 3


def test_one_two_zero_one() -> None:
    world = SmallWorld()
    counts = []
    for count in (1, 2, 0, 1):
        world.settle(desired(count))
        counts.append(len(world.replicas))

    assert counts == [1, 2, 0, 1]


@pytest.mark.parametrize("seed", range(40))
def test_any_row_of_edits_ends_with_the_last_wish(seed: int) -> None:
    chance = random.Random(seed)
    world = SmallWorld(cannot_start=frozenset({"bad"}))
    for _ in range(12):
        wish = desired(chance.randrange(5), surge=chance.random() < 0.5, revision=chance.choice(["old", "bad", "new"]))
        for _ in range(chance.randrange(1, 6)):
            world.apply(planning.make(wish, world.observed(wish), world.now))
            assert len(world.replicas) <= 12, "edits pile no replicas up"
    count = chance.randrange(5)

    world.settle(desired(count, surge=chance.random() < 0.5, revision="last"))

    assert [(r.revision, r.state) for r in world.replicas] == [("last", READY)] * count


@pytest.mark.parametrize("surge", [False, True])
def test_a_third_revision_replaces_an_unready_second_at_once(surge: bool) -> None:
    there = replicas(("a", READY, "old"), ("b", READY, "old"), ("c", STARTING, "second"))
    there = there if surge else there[1:]
    wish = replace(desired(2, surge=surge, revision="third"), is_scheduled=True)

    plan = planning.make(wish, Observed(there, (OLD, Revision("second"), Revision("third"))), T0)

    assert plan.delete == ("c",)
    assert [new.revision for new in plan.create] == ["third"]


@pytest.mark.parametrize("surge", [False, True])
def test_an_edit_back_ends_what_starts_and_takes_nothing_else_away(surge: bool) -> None:
    there = replicas(("a", READY, "old"), ("b", READY, "old"), ("c", STARTING, "new"))

    plan = planning.make(desired(2, surge=surge, revision="old"), Observed(there, (Revision("new"), OLD)), T0)

    assert (plan.delete, plan.create) == (("c",), ())


@pytest.mark.parametrize("surge", [False, True])
def test_an_edit_back_half_way_brings_the_old_ones_back_one_by_one(surge: bool) -> None:
    world = SmallWorld()
    world.settle(desired(4, surge=surge, revision="old"))
    world.run(desired(4, surge=surge), rounds=5)
    assert {r.revision for r in world.replicas} == {"old", "new"}
    world.history.clear()

    world.settle(desired(4, surge=surge, revision="old"))

    assert [(r.revision, r.state) for r in world.replicas] == [("old", READY)] * 4
    assert min(ready for _, ready in world.history) >= (4 if surge else 3)


def test_while_another_model_surges_nothing_is_made_and_nothing_goes() -> None:
    there = replicas(("a", READY, "old"))
    wish = replace(desired(1, surge=True), makes_way=True, is_scheduled=True)

    plan = planning.make(wish, Observed(there, (OLD, Revision("new")), surge_waits="team/b goes first"), T0)

    assert not plan.changes_something


def test_what_is_missing_is_made_whoever_surges() -> None:
    wish = replace(desired(2, surge=True), is_scheduled=True)

    plan = planning.make(wish, Observed((), (OLD, Revision("new")), surge_waits="team/b goes first"), T0)

    assert [new.beside for new in plan.create] == [False, False]


def test_only_a_replica_over_the_number_wanted_stands_beside_the_others() -> None:
    there = replicas(("a", READY, "old"), ("b", DRAINING, "old"))
    wish = replace(desired(2, surge=True), is_scheduled=True)

    plan = planning.make(wish, Observed(there, (OLD, Revision("new"))), T0)

    assert [new.beside for new in plan.create] == [False, True]


@pytest.mark.parametrize(("count", "left"), [(1, 0), (3, 2)])
def test_where_the_quota_is_used_up_an_old_replica_goes_first(count: int, left: int) -> None:
    there = tuple(a_replica(f"o{i}", READY, "old") for i in range(count))
    wish = replace(desired(count, surge=True), makes_way=True, is_scheduled=True)

    plan = planning.make(wish, Observed(there, (OLD, Revision("new")), may_make=0, surge_refused="exceeded quota"), T0)

    assert (len(there) - len(plan.delete), plan.create) == (left, ())


def test_no_ready_replica_makes_way_while_another_one_is_missing() -> None:
    """Three wanted: one of the new revision was ready and is not any more, the next waits for room."""
    waits = replace(
        a_replica("d", STARTING, "new"), hindrance=Hindrance(Reason.UNSCHEDULABLE, "no GPU", T0 - LONG, True)
    )
    there = (*replicas(("a", READY, "old"), ("b", READY, "old"), ("c", STARTING, "new")), waits)
    wish = replace(desired(3, surge=True), makes_way=True, is_scheduled=True)

    assert planning.make(wish, Observed(there, (OLD, NEW_ONCE)), T0).delete == ()
    whole = (*there[:2], a_replica("c", READY, "new"), waits)
    assert planning.make(wish, Observed(whole, (OLD, NEW_ONCE)), T0).delete == ("b",)


def test_what_kept_a_revision_from_starting_stands_in_the_sentence_at_its_deadline() -> None:
    hindrance = Hindrance(Reason.IMAGE_UNAVAILABLE, "the image cannot be pulled", T0 - LONG)
    waits = replace(a_replica("b", STARTING, "new", age=70), hindrance=hindrance)
    there = (a_replica("a", READY, "old"), waits)

    plan = planning.make(desired(1, surge=True, deadline=60), Observed(there, (OLD, Revision("new"))), T0)

    assert plan.delete == ("b",)
    assert "not ready within 60 s: the image cannot be pulled" in plan.because


@pytest.mark.parametrize("seed", range(40))
def test_a_rollout_among_failing_replicas_takes_no_ready_one_below_the_floor(seed: int) -> None:
    """Replicas lose their readiness at random; what the rollout itself takes away leaves at most one missing."""
    chance = random.Random(seed)
    world = SmallWorld()
    count, surge = chance.randrange(1, 5), chance.random() < 0.5
    world.settle(desired(count, surge=surge, revision="old"))
    wish = replace(desired(count, surge=surge), makes_way=surge and chance.random() < 0.5, is_scheduled=True)
    for _ in range(60):
        if chance.random() < 0.2 and world.replicas:
            index = chance.randrange(len(world.replicas))
            if world.replicas[index].state is READY:
                world.replicas[index] = replace(world.replicas[index], state=STARTING, since=world.now)
        seen = world.observed(wish)
        plan = planning.make(wish, seen, world.now)
        taken = sum(r.name in plan.delete and r.state is READY for r in seen.replicas)
        if taken:
            assert len(seen.ready) - taken >= count - (0 if surge else 1), plan
        world.apply(plan)
