"""Nobody who could be served waits, nobody overtakes, and no endpoint gets more than its limit."""

from random import Random

import pytest

from dispatched import Asker, World
from shoal_api.routes import Endpoint
from shoal_serving.gateway.dispatching import Away
from shoal_serving.gateway.upstream import LiveEndpoint


def test_an_endpoint_that_opens_between_two_looks_at_the_clock_is_not_missed() -> None:
    for step in range(1, 60):
        world = World("a")
        world.endpoint("a").health.busy(world.now)
        world.tick = step * 0.0011
        asker = world.ask()
        world.run_timers()
        assert asker.endpoint is not None, step


def test_as_many_are_woken_as_there_is_room_and_in_order() -> None:
    world = World(maxInFlightPerReplica=2)
    askers = [world.ask() for _ in range(7)]
    world.dispatcher.update(world.route("a", "b", maxInFlightPerReplica=2))
    assert [asker.endpoint is not None for asker in askers] == [True] * 4 + [False] * 3
    first = askers[0].endpoint
    assert first is not None
    world.dispatcher.release(first)
    assert askers[4].endpoint is first
    assert askers[5].endpoint is None


def test_nobody_overtakes_who_waits() -> None:
    world = World("a", maxInFlightPerReplica=1)
    running, held = world.ask(), world.ask()
    world.dispatcher.update(world.route("a", maxInFlightPerReplica=1))
    late = world.ask()
    assert running.endpoint is not None
    world.dispatcher.release(running.endpoint)
    assert held.endpoint is not None
    assert late.endpoint is None


def test_nobody_overtakes_who_comes_back_though_the_alarm_is_late() -> None:
    world = World("a", maxInFlightPerReplica=1)
    back, a = world.ask(), world.endpoint("a")
    a.health.busy(world.now)
    world.dispatcher.ask_again(back, _given_back(back))
    world.now = a.health.skip_until
    assert world.ask().endpoint is None
    assert back.endpoint is a


def test_one_who_may_not_go_where_there_is_room_lets_the_others_pass() -> None:
    world = World("a", "b", maxInFlightPerReplica=1)
    first, second = world.ask(), world.ask()
    third = world.ask()
    assert first.endpoint is not None
    assert second.endpoint is not None
    second.tried = {first.endpoint.uid, second.endpoint.uid}
    back = second.endpoint
    second.endpoint = None
    world.dispatcher.ask_again(second, back)
    assert second.endpoint is None
    assert third.endpoint is back


def test_one_that_ended_an_engine_and_has_none_left_is_sent_away() -> None:
    world = World("a", "b", maxInFlightPerReplica=1)
    first, second = world.ask(), world.ask()
    assert first.endpoint is not None
    assert second.endpoint is not None
    first.tried, first.deadly, gone = {first.endpoint.uid}, True, first.endpoint
    world.dispatcher.ask_again(first, gone)
    assert first.end == ""
    world.dispatcher.update(world.route(gone.uid, maxInFlightPerReplica=1))
    assert first.end == "stranded"


def test_the_same_endpoint_stays_through_snapshots_and_a_moved_one_is_new() -> None:
    world = World("a")
    asker = world.ask()
    before = world.endpoint("a")
    world.dispatcher.update(world.route("a", "b"))
    assert world.endpoint("a") is before
    moved = world.route("a").model_copy(update={"endpoints": [Endpoint(replica="a", uid="a", host="other", port=1)]})
    world.dispatcher.update(moved)
    assert world.endpoint("a") is not before
    assert before.gone
    assert world.dispatcher.in_flight_by_replica() == {"a": 1}
    assert asker.endpoint is before
    world.dispatcher.release(before)
    assert world.dispatcher.in_flight_by_replica() == {}
    assert world.dispatcher.in_flight == 0


def test_the_room_has_its_bound() -> None:
    world = World(maxWaiting=2)
    assert [world.ask().end for _ in range(3)] == ["", "", "full"]


def test_a_closed_model_sends_everybody_away_also_who_comes_back() -> None:
    world = World("a", maxInFlightPerReplica=1)
    running, held = world.ask(), world.ask()
    world.dispatcher.close()
    assert held.end == "unrouted"
    assert running.endpoint is not None
    world.dispatcher.ask_again(running, running.endpoint)
    assert running.end == "unrouted"
    assert world.dispatcher.in_flight == 0


def test_a_long_random_story_never_overfills_and_never_forgets() -> None:
    chance = Random(9)
    world = World("a", "b", "c", maxInFlightPerReplica=3)
    everybody: list[Asker] = []
    for _ in range(4000):
        world.now += chance.random() / 50
        running = [asker for asker in everybody if asker.endpoint is not None]
        choice = chance.random()
        if choice < 0.45:
            everybody.append(world.ask())
        elif choice < 0.9 and running:
            asker = chance.choice(running)
            endpoint, asker.endpoint = asker.endpoint, None
            assert endpoint is not None
            if chance.random() < 0.2:
                endpoint.health.busy(world.now)
                world.dispatcher.ask_again(asker, endpoint)
            else:
                everybody.remove(asker)
                world.dispatcher.release(endpoint)
        elif waiting := [asker for asker in everybody if asker.endpoint is None]:
            asker = chance.choice(waiting)
            everybody.remove(asker)
            world.dispatcher.leave(asker)
        assert all(endpoint.in_flight <= 3 for endpoint in world.dispatcher.endpoints)
        assert len(world.dispatcher.room) == sum(asker.endpoint is None for asker in everybody)
        due = [timer for timer in world.timers if timer[0] <= world.now]
        world.timers = [timer for timer in world.timers if timer[0] > world.now]
        for _, then in due:
            then()
    while everybody:
        world.run_timers()
        for asker in [asker for asker in everybody if asker.endpoint is not None]:
            everybody.remove(asker)
            assert asker.endpoint is not None
            world.dispatcher.release(asker.endpoint)
    assert world.dispatcher.in_flight == 0


@pytest.mark.parametrize("most_waiting", [1000, 1])
def test_who_waits_for_another_endpoint_holds_up_nobody_who_comes(most_waiting: int) -> None:
    for replicas in (("a",), ("a", "b")):  # without and with a request that runs, whose end may be far away
        world = World(*replicas, maxInFlightPerReplica=1, maxWaiting=most_waiting)
        running = [world.ask() for _ in replicas]
        first = next(asker for asker in running if asker.endpoint is world.endpoint("a"))
        first.tried = {"a"}
        world.dispatcher.ask_again(first, _given_back(first))

        second = world.ask()
        assert second.endpoint is world.endpoint("a")
        assert first.endpoint is None
        assert world.ask().endpoint is None


def test_when_a_replica_that_was_out_is_reached_everybody_may_go_there_not_only_the_one_that_tried_it() -> None:
    world = World("a", maxInFlightPerReplica=4)
    a = world.endpoint("a")
    a.unreachable(world.now, "refused")
    held = [world.ask() for _ in range(5)]
    world.run_timers()
    assert [asker.endpoint for asker in held] == [a, None, None, None, None]
    a.reached()
    world.run_timers()
    assert [asker.endpoint for asker in held] == [a, a, a, a, None]


def test_who_leaves_during_its_trial_of_a_replica_leaves_nobody_waiting_for_ever() -> None:
    for is_reached in (True, False):
        world = World("a", maxInFlightPerReplica=4)
        a = world.endpoint("a")
        a.unreachable(world.now, "refused")
        gone, *held = [world.ask() for _ in range(4)]
        world.run_timers()
        world.dispatcher.release(_given_back(gone))
        assert [asker.endpoint for asker in held] == [None] * 3
        if is_reached:
            a.reached()
            world.run_timers()
            assert [asker.endpoint for asker in held] == [a] * 3
        else:
            a.unreachable(world.now, "refused")
            world.run_timers()
            assert [asker.endpoint for asker in held] == [a, None, None]


def test_a_replica_that_leaves_the_table_and_comes_again_still_has_what_runs_on_it() -> None:
    world = World("a", "b", maxInFlightPerReplica=4)
    running = [world.ask() for _ in range(6)]
    on_a, a = [asker for asker in running if asker.endpoint is world.endpoint("a")], world.endpoint("a")
    a.unreachable(world.now, "refused")
    for _ in range(2):
        world.dispatcher.update(world.route("b", maxInFlightPerReplica=4))
        assert world.dispatcher.in_flight_by_replica() == {"a": len(on_a), "b": 6 - len(on_a)}
        world.dispatcher.update(world.route("a", "b", maxInFlightPerReplica=4))
    assert not world.endpoint("a").health.is_out  # it became ready anew
    assert world.dispatcher.in_flight_by_replica() == {"a": len(on_a), "b": 6 - len(on_a)}
    further = [world.ask() for _ in range(3)]
    assert [asker.endpoint is not None for asker in further] == [True, True, False]
    for asker in on_a:
        world.dispatcher.release(_given_back(asker))
    assert world.endpoint("a") is a
    assert world.dispatcher.in_flight == sum(world.dispatcher.in_flight_by_replica().values()) == 9 - len(on_a)


def test_a_long_random_story_of_outages_keeps_nobody_waiting_who_could_be_served() -> None:
    for seed in range(40):
        _story_of_outages(Random(seed))


def test_callers_take_turns_at_what_becomes_free() -> None:
    world = World("a", maxInFlightPerReplica=1)
    running = world.ask("loud")
    loud, quiet = [world.ask("loud") for _ in range(200)], [world.ask("quiet") for _ in range(5)]
    waited = 0
    while not all(asker.turn for asker in quiet):
        assert running.endpoint is not None
        endpoint, running.endpoint = running.endpoint, None
        world.dispatcher.release(endpoint)
        waited += 1
        running = next(asker for asker in (*loud, *quiet) if asker.endpoint is not None and asker.turn == waited + 1)
    assert waited == 10


def test_a_wake_up_looks_at_as_many_as_it_sends() -> None:
    world = World("a", maxInFlightPerReplica=2)
    running = [world.ask(), world.ask()]
    held = [world.ask(str(number % 300)) for number in range(1000)]
    for asker in held:
        asker.looked_at = 0
    for asker in running:
        assert asker.endpoint is not None
        world.dispatcher.release(asker.endpoint)
    assert sum(asker.endpoint is not None for asker in held) == 2
    assert sum(asker.looked_at for asker in held) == 4


def test_who_comes_back_from_a_full_replica_waits_before_all_others_and_is_looked_at_once() -> None:
    world = World("a", "b", maxInFlightPerReplica=20)
    running = [world.ask("loud") for _ in range(40)]
    held = [world.ask("quiet") for _ in range(5)]
    on_a = [asker for asker in running if asker.endpoint is world.endpoint("a")]
    for asker in on_a:
        asker.tried = {"a"}
        endpoint, asker.endpoint = asker.endpoint, None
        assert endpoint is not None
        endpoint.health.unreachable(world.now)
        world.dispatcher.ask_again(asker, endpoint)
    assert [asker.endpoint for asker in (*on_a, *held)] == [None] * 25
    for asker in on_a:
        asker.looked_at = 0
    world.dispatcher.release(world.endpoint("b"))
    assert on_a[0].endpoint is world.endpoint("b")
    assert sum(asker.looked_at for asker in on_a) == 2


def test_a_request_whose_client_will_have_given_up_is_not_started() -> None:
    world = World("a", maxInFlightPerReplica=1)
    running, hasty, patient = world.ask(), world.ask(give_up_at=world.now + 5), world.ask()
    world.now += 5
    assert running.endpoint is not None
    world.dispatcher.release(running.endpoint)
    assert (hasty.end, hasty.endpoint, hasty.turn) == (Away.LATE, None, 0)
    assert patient.endpoint is not None
    patient.give_up_at = world.now
    endpoint, patient.endpoint = patient.endpoint, None
    world.dispatcher.ask_again(patient, endpoint)
    assert patient.end == Away.LATE
    assert not world.dispatcher.room
    assert world.dispatcher.in_flight == 0


def test_a_thousand_that_are_late_at_once_hold_up_nobody() -> None:
    world = World("a", maxInFlightPerReplica=1)
    running = world.ask()
    hasty = [world.ask(give_up_at=world.now + 1) for _ in range(900)]
    patient = world.ask()
    world.now += 2
    assert running.endpoint is not None
    world.dispatcher.release(running.endpoint)
    assert {asker.end for asker in hasty} == {Away.LATE}
    assert patient.endpoint is not None


def test_one_that_fills_the_room_gives_way_to_another_caller() -> None:
    world = World(maxWaiting=4)
    loud = [world.ask("loud") for _ in range(5)]
    assert [asker.end for asker in loud] == ["", "", "", "", "full"]
    quiet = [world.ask("quiet") for _ in range(3)]
    assert [asker.end for asker in loud] == ["", "", Away.DISPLACED, Away.DISPLACED, "full"]
    assert [asker.end for asker in quiet] == ["", "", "full"]
    assert len(world.dispatcher.room) == 4


def _given_back(asker: Asker) -> LiveEndpoint:
    endpoint, asker.endpoint = asker.endpoint, None
    assert endpoint is not None
    return endpoint


def _story_of_outages(chance: Random) -> None:
    """Requests come, fail, leave and end; replicas are busy, out, tried, gone and there again."""
    limits = {"maxInFlightPerReplica": 2}
    world = World("a", "b", "c", **limits)
    everybody: list[Asker] = []
    connecting: list[tuple[Asker, LiveEndpoint]] = []
    for _ in range(400):
        world.now += chance.choice((0.001, 0.05, 0.6))
        for asker in everybody:
            # Nothing is known of a replica that is out before a connection to it was made, or not.
            if asker.endpoint is not None and asker.endpoint.health.on_trial:
                connecting = [pair for pair in connecting if pair[1] is not asker.endpoint]
                connecting.append((asker, asker.endpoint))
        choice = chance.randrange(7)
        running = [asker for asker in everybody if asker.endpoint is not None]
        if choice <= 1 or not running:
            everybody.append(world.ask())
        elif choice == 2 and connecting:
            tries, endpoint = connecting.pop(chance.randrange(len(connecting)))
            if chance.random() < 0.5:
                endpoint.reached()
            else:
                endpoint.unreachable(world.now, "refused")
                if tries in everybody and tries.endpoint is endpoint:
                    world.dispatcher.ask_again(tries, _given_back(tries))
        elif choice == 3:
            asker = chance.choice(running)
            endpoint = _given_back(asker)
            asker.tried.add(endpoint.uid)
            world.dispatcher.ask_again(asker, endpoint)
        elif choice == 4:
            asker = chance.choice(running)
            endpoint = _given_back(asker)
            if chance.random() < 0.5:
                endpoint.health.busy(world.now)
            else:
                endpoint.unreachable(world.now, "refused")
            world.dispatcher.ask_again(asker, endpoint)
        elif choice == 5:
            there = chance.sample("abc", chance.randrange(1, 4))
            world.dispatcher.update(world.route(*there, **limits))
        else:
            asker = chance.choice(everybody)
            everybody.remove(asker)
            if asker.endpoint is None:
                world.dispatcher.leave(asker)
            else:
                world.dispatcher.release(_given_back(asker))
        for at, then in [timer for timer in world.timers if timer[0] <= world.now]:
            world.timers.remove((at, then))
            then()
        counted = dict.fromkeys(world.dispatcher.endpoints, 0)
        for asker in everybody:
            if asker.endpoint in counted:
                counted[asker.endpoint] += 1
        assert {endpoint: endpoint.in_flight for endpoint in counted} == counted
        free = {
            endpoint.uid
            for endpoint in world.dispatcher.endpoints
            if endpoint.in_flight < 2 and endpoint.health.is_open(world.now)
        }
        assert [asker.number for asker in everybody if asker.endpoint is None and free - asker.tried] == []
