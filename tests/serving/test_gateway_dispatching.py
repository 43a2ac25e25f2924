"""Nobody who could be served waits, nobody overtakes, and no endpoint gets more than its limit."""

from random import Random

from dispatched import Asker, World
from shoal_api.routes import Endpoint
from shoal_serving.gateway.dispatching import Away


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


def test_who_waits_for_another_endpoint_holds_up_nobody_behind() -> None:
    world = World("a")
    first = world.ask()
    assert first.endpoint is not None
    first.tried = {"a"}
    endpoint, first.endpoint = first.endpoint, None
    world.dispatcher.ask_again(first, endpoint)

    second = world.ask()
    assert second.endpoint is None
    for _, then in world.timers:
        then()

    assert second.endpoint is not None
    assert first.endpoint is None


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
