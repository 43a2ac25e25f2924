"""Edits, numbers, canaries, failures, nodes lost and found in any row: what a plan may never do, how it all ends."""

import random
from dataclasses import replace
from typing import Any

import pytest

from replicas import desired
from shoal_operator import canary
from shoal_operator.observed import Observed, ReplicaState
from shoal_operator.planning import Plan, Step
from shoal_operator.rollout import Desired
from slow_world import SlowWorld

MANNERS: list[dict[str, Any]] = [
    {"surge": True, "makes_way": True, "is_scheduled": True},
    {"surge": True, "is_scheduled": True},
    {"is_scheduled": True},
    {},
]
LONG_SECONDS = 40_000.0


@pytest.mark.parametrize("seed", range(100))
def test_whatever_comes_in_whatever_row_no_plan_goes_too_far_and_all_comes_to_rest(seed: int) -> None:
    chance = random.Random(seed)
    wish = replace(desired(chance.randint(1, 4), revision="r0"), **chance.choice(MANNERS))
    world = SlowWorld(chance, replace(wish, start_deadline_seconds=chance.choice([200, 1800])), chance.randint(2, 9))
    for number in range(1, chance.randint(2, 9)):
        something_happens(world, number)
        for seen, plan in world.passes(chance.choice([1, 12, 60, 300, 3000])):
            goes_not_too_far(world.wish, seen, plan)

    world.surge_waits, world.rooms = "", 10
    for seen, plan in world.passes(LONG_SECONDS):
        goes_not_too_far(world.wish, seen, plan)
    if world.wish.revision in world.hanging and not any(r.proven for r in world.revisions.values()):
        return  # it is tried on: there is nothing else
    assert list(world.passes(LONG_SECONDS)) == []
    is_as_wished(world)


def something_happens(world: SlowWorld, number: int) -> None:
    chance, wish = world.chance, world.wish
    match chance.choice(["edit", "edit", "edit", "number", "number", "canary", "turn", "failure", "rooms"]):
        case "edit":
            earlier = f"r{chance.randrange(number)}"
            world.wish = replace(wish, revision=chance.choice([f"r{number}", earlier, "broken", "hanging"]))
        case "number":
            count = chance.randrange(5)
            world.wish = replace(wish, replicas=count, asks_for_none=not count and chance.random() < 0.5)
        case "canary":
            world.wish = replace(wish, canaries=chance.choice([0, 0, 1, 2]))
        case "turn":
            world.surge_waits = chance.choice(["", "team/b goes first"])
        case "failure":
            world.one_fails()
        case "rooms":
            world.rooms = chance.randint(1, 9)


def goes_not_too_far(wish: Desired, seen: Observed, plan: Plan) -> None:
    taken = sum(replica.name in plan.delete for replica in seen.ready)
    if taken and wish.replicas and plan.step in (Step.ROLLED_OUT, Step.RESTORED):
        stays_whole = wish.surge and not wish.makes_way
        assert len(seen.ready) - taken >= wish.replicas - (0 if stays_whole else 1), (wish, seen, plan)
    there = len(seen.staying) + len(plan.create) - len(set(plan.delete) & {r.name for r in seen.staying})
    assert there <= max(len(seen.staying), wish.replicas + int(wish.surge) + int(wish.canaries > 0)), (wish, seen, plan)


def is_as_wished(world: SlowWorld) -> None:
    """Every replica answers, and is of the revision that is wished for; of the last that worked, where that gave up."""
    wish, known = world.wish, world.revisions[world.wish.revision]
    assert all(replica.state is ReplicaState.READY for replica in world.replicas.values()), (wish, world.replicas)
    of_it = sum(replica.revision == wish.revision for replica in world.ready)
    worked = [r.name for r in world.revisions.values() if r.proven and not r.canary and not r.fault]
    if known.fault is not None:
        assert len(world.ready) == (wish.replicas if worked else of_it), (wish, world.replicas)
    elif wish.canaries and known.canary and wish.replicas:
        assert (of_it, len(world.ready) - of_it) == canary.counts(wish), (wish, world.replicas)
    elif wish.revision not in world.broken | world.hanging:
        assert (of_it, len(world.ready)) == (wish.replicas, wish.replicas), (wish, world.replicas)
