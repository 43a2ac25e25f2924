"""Callers who wait at other gateways get their part of the places here, too."""

from dispatched import World
from shoal_api.load import Claim, Claims


def here_and_there(here: int, there: int) -> Claims:
    """One caller at this gateway and one at another, with so many requests."""
    own, other = (Claim(callers={"normal": 1}, requests=count) for count in (here, there))
    return Claims(claims=[own, other], own=0) if here else Claims(claims=[other])


def test_while_callers_wait_at_another_gateway_it_gets_its_part_of_the_places_as_they_become_free() -> None:
    world = World("a", "b", maxInFlightPerReplica=2)
    askers = [world.ask() for _ in range(12)]
    world.dispatcher.share(here_and_there(12, 9))
    assert world.dispatcher.in_flight == 4, "nothing that runs is taken back"
    for asker in askers[:2]:
        assert asker.endpoint is not None
        world.dispatcher.release(asker.endpoint)
    assert world.dispatcher.in_flight == 2
    assert askers[2].endpoint is not None
    world.dispatcher.release(askers[2].endpoint)
    assert world.dispatcher.in_flight == 2, "its own two are filled again"
    assert [asker.number for asker in askers if asker.turn] == [1, 2, 3, 4, 5]
    world.dispatcher.share(None)
    assert world.dispatcher.in_flight == 4, "all are its own again at once"


def test_who_comes_while_others_wait_elsewhere_waits_for_their_part_and_is_told_of() -> None:
    world = World("a", maxInFlightPerReplica=4)
    running = world.ask()
    world.dispatcher.share(here_and_there(0, 9))
    newcomer = world.ask("b")
    assert newcomer.endpoint is None
    assert world.dispatcher.callers() == {"normal": 1}
    world.dispatcher.share(here_and_there(2, 9))
    assert newcomer.endpoint is not None
    assert world.ask().endpoint is None
    for asker in (running, newcomer):
        assert asker.endpoint is not None
        world.dispatcher.release(asker.endpoint)
    assert world.dispatcher.in_flight == 1


def test_one_place_at_least_is_always_tried_also_by_who_comes_back() -> None:
    world = World("a", maxInFlightPerReplica=1)
    asker, other = world.ask(), world.ask()
    world.dispatcher.share(here_and_there(2, 9))
    endpoint, asker.endpoint = asker.endpoint, None
    assert endpoint is not None
    endpoint.health.busy(world.now)
    world.dispatcher.ask_again(asker, endpoint)
    world.run_timers()
    assert asker.endpoint is not None
    assert other.endpoint is None


def test_of_a_replica_that_cannot_be_reached_nothing_is_claimed_and_nothing_counted() -> None:
    world = World("a", "b", maxInFlightPerReplica=4)
    askers = [world.ask(caller) for caller in "abcdefghijkl"]
    assert world.dispatcher.callers() == {"normal": 4}
    world.endpoint("a").health.unreachable(world.now)
    world.dispatcher.share(here_and_there(9, 9))
    for asker in askers[:8]:
        if asker.endpoint is world.endpoint("b"):
            endpoint, asker.endpoint = asker.endpoint, None
            world.dispatcher.release(endpoint)
    assert world.endpoint("b").in_flight == 2, "half of the four that there are"
    world.endpoint("b").health.unreachable(world.now)
    assert world.dispatcher.callers() == {}


def test_callers_that_wait_are_counted_once_by_priority_also_those_that_come_back() -> None:
    world = World("a", maxInFlightPerReplica=2)
    first, second = world.ask("a"), world.ask("b")
    for caller in ("a", "a", "c"):
        world.ask(caller)
    for asker in (first, second):
        endpoint, asker.endpoint = asker.endpoint, None
        assert endpoint is not None
        endpoint.health.busy(world.now)
        world.dispatcher.ask_again(asker, endpoint)
    assert world.dispatcher.callers() == {"normal": 3}
