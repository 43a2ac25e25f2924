"""What several gateways tell becomes one load; who is silent is believed for as long as they can be asked."""

from datetime import timedelta
from typing import Any

import pytest

from builders import a_model
from replicas import T0
from shoal_api.load import VERSION, Claim, Claims, LoadMessage, ModelLoad
from shoal_operator import scaling
from shoal_operator.load import Load, service_seconds
from shoal_operator.merging import Gateway, Merger, OutOfOrder


class Gateways:
    """Some gateways that tell what they are told to, one second after the other."""

    def __init__(self, *names: str) -> None:
        self.now = T0
        self.merger = Merger(T0)
        self.there = {name: Gateway(name, "10.0.0.1", 9090, is_ready=True) for name in names}
        self.sequence: dict[str, int] = {}
        self.boots: dict[str, str] = {}
        self.wakes: list[frozenset[str] | None] = []
        self.merger.see(self.there.values(), self.now)

    def tell(self, name: str, *, whole: bool = False, uptime: float = 1e6, **models: ModelLoad) -> frozenset[str]:
        whole = whole or name not in self.sequence
        self.sequence[name] = 0 if whole else self.sequence[name] + 1
        message = LoadMessage(
            version=VERSION,
            boot=self.boots.setdefault(name, f"boot-{name}"),
            sequence=self.sequence[name],
            is_whole=whole,
            uptime_seconds=uptime,
            models={f"default/{model}": load for model, load in models.items()},
        )
        return self.merger.hear(name, message, self.now)

    def become(self, name: str, *, is_ready: bool) -> None:
        self.there[name] = Gateway(name, "10.0.0.1", 9090, is_ready)

    def pass_time(self, seconds: float, *speaking: str) -> None:
        """Those that speak say every second that nothing changed."""
        for _ in range(round(seconds)):
            self.now += timedelta(seconds=1)
            for name in speaking:
                self.tell(name)
            self.wakes.append(self.merger.see(self.there.values(), self.now))

    def load(self, model: str = "m") -> Load:
        return self.merger.load(f"default/{model}", self.now)


def running(count: int, waiting: int = 0, **by_replica: int) -> ModelLoad:
    return ModelLoad(waiting=waiting, in_flight=count, in_flight_by_replica=by_replica or {"r0": count})


def idle(seconds: float) -> ModelLoad:
    return ModelLoad(idle_seconds=seconds)


def test_before_any_gateway_spoke_nothing_is_known() -> None:
    told = Gateways("a")

    assert told.load().samples == ()
    assert Merger(T0).load("default/m", T0).samples == ()


def test_the_sum_is_over_all_gateways_and_each_is_told_what_the_others_have() -> None:
    told = Gateways("a", "b", "c")
    told.tell("a", m=running(1, r0=1))
    told.tell("b", m=running(2, r0=1, r1=1))
    told.tell("c", m=running(2, waiting=1, r1=2), other=running(5, x=5))

    load = told.load()
    assert (load.newest.waiting, load.newest.in_flight) == (1, 5)
    assert load.in_flight_by_replica == {"r0": 2, "r1": 3}
    assert told.merger.elsewhere("a") == {"default/m": {"r0": 1, "r1": 3}, "default/other": {"x": 5}}
    assert told.merger.elsewhere("c") == {"default/m": {"r0": 2, "r1": 1}}


def test_only_models_whose_load_changed_are_news() -> None:
    told = Gateways("a")
    assert told.tell("a", m=running(1), n=running(1)) == {"default/m", "default/n"}

    assert told.tell("a") == frozenset()
    assert told.tell("a", n=running(2)) == {"default/n"}
    assert told.tell("a", n=running(2)) == frozenset()


def test_a_model_nobody_asked_for_has_no_load_which_is_known() -> None:
    told = Gateways("a")
    told.tell("a")
    told.pass_time(10, "a")

    load = told.load()
    assert (load.newest.load, load.missing, load.samples[0].at) == (0, (), T0)


def waits(count: int, callers: dict[str, int], runs: int = 0) -> ModelLoad:
    return ModelLoad(waiting=count, in_flight=runs, callers=callers)


def test_each_gateway_is_told_where_callers_wait_in_the_same_order() -> None:
    told = Gateways("a", "b", "c")
    told.tell("b", m=waits(200, {"normal": 2}, 4), alone=waits(3, {"low": 1}))
    told.tell("a", m=waits(5, {"high": 1}))
    told.tell("c", m=running(2), alone=running(1))
    there = [
        Claim(callers={"high": 1}, requests=5),
        Claim(callers={"normal": 2}, requests=204),
    ]

    assert told.merger.claims("a", told.now)["default/m"] == Claims(claims=there, own=0)
    assert told.merger.claims("b", told.now) == {"default/m": Claims(claims=there, own=1)}, "nobody else wants alone"
    assert told.merger.claims("c", told.now)["default/m"] == Claims(claims=there, own=None)
    assert told.merger.claims("c", told.now)["default/alone"].claims == [Claim(callers={"low": 1}, requests=3)]


def test_who_is_silent_claims_no_place_and_neither_does_a_gateway_from_before_there_were_claims() -> None:
    told = Gateways("a", "b", "old")
    told.tell("a", m=waits(5, {"normal": 1}))
    told.tell("b", m=waits(5, {"normal": 1}))
    told.tell("old", m=running(4, waiting=9))
    assert len(told.merger.claims("a", told.now)["default/m"].claims) == 2
    told.pass_time(3, "a", "old")

    assert told.merger.claims("a", told.now) == {}
    assert told.merger.claims("b", told.now)["default/m"].own is None


def test_one_that_is_silent_and_ready_keeps_its_load_for_ever_and_is_named() -> None:
    told = Gateways("a", "b")
    told.tell("a", m=running(1))
    told.tell("b", m=running(3))
    told.pass_time(600, "a")

    load = told.load()
    assert load.newest.in_flight == 4
    assert load.missing == ("b",)
    assert load.silent == (f"gateway b is Ready and has not told its load since {T0:%H:%M:%S}Z",)


@pytest.mark.parametrize("how", ["gone", "not ready"])
def test_one_that_is_silent_and_gone_or_not_ready_is_out_after_fifteen_seconds(how: str) -> None:
    told = Gateways("a", "b")
    told.tell("a", m=running(1))
    told.tell("b", m=running(3))
    if how == "gone":
        del told.there["b"]
    else:
        told.become("b", is_ready=False)

    told.pass_time(14, "a")
    load = told.load()
    assert (load.newest.in_flight, load.missing, load.silent) == (4, ("b",), ())
    told.pass_time(1, "a")
    load = told.load()
    assert (load.newest.in_flight, load.missing, load.silent) == (1, (), ())


def test_one_that_answers_counts_though_it_is_not_ready() -> None:
    told = Gateways("a", "b")
    told.tell("a", m=running(1))
    told.tell("b", m=running(3))
    told.become("b", is_ready=False)
    told.pass_time(100, "a", "b")

    assert (told.load().newest.in_flight, told.load().missing) == (4, ())


def test_when_the_last_one_is_out_nothing_is_known_again() -> None:
    told = Gateways("a")
    told.tell("a", m=running(3))
    del told.there["a"]
    told.pass_time(16)

    assert told.load().samples == ()


def test_a_new_one_that_did_not_speak_yet_is_missing_and_complained_about_after_a_while() -> None:
    told = Gateways("a")
    told.tell("a")
    told.there["b"] = Gateway("b", "10.0.0.2", 9090, is_ready=True)
    told.pass_time(1, "a")
    assert (told.load().missing, told.load().silent) == (("b",), ())
    told.pass_time(4, "a")

    assert "gateway b" in told.load().silent[0]


def test_one_that_starts_and_is_not_ready_holds_nobody_up() -> None:
    told = Gateways("a")
    told.tell("a")
    told.there["b"] = Gateway("b", "10.0.0.2", 9090, is_ready=False)
    told.pass_time(30, "a")

    assert (told.load().missing, told.load().silent) == ((), ())


def test_everybody_is_told_when_a_gateway_falls_silent_or_speaks_again() -> None:
    told = Gateways("a", "b")
    told.tell("a")
    told.tell("b")
    told.pass_time(2, "a", "b")
    told.wakes.clear()
    told.pass_time(5, "a")

    assert told.wakes.count(None) == 1
    told.wakes.clear()
    told.tell("b", whole=True)
    told.pass_time(3, "a", "b")
    assert told.wakes.count(None) == 1


def test_a_restarted_gateway_counts_anew() -> None:
    told = Gateways("a")
    told.tell("a", m=running(9))
    told.pass_time(5, "a")
    told.boots["a"] = "another"
    assert told.tell("a", whole=True, uptime=1, n=running(1)) == {"default/m", "default/n"}

    assert (told.load("m").newest.load, told.load("n").newest.load) == (0, 1)


@pytest.mark.parametrize("broken", [{"sequence": 7}, {"boot": "another"}])
def test_a_lost_message_is_noticed(broken: dict[str, Any]) -> None:
    told = Gateways("a")
    told.tell("a", m=running(9))
    right = LoadMessage(version=VERSION, boot="boot-a", sequence=1, is_whole=False)

    with pytest.raises(OutOfOrder):
        told.merger.hear("a", right.model_copy(update=broken), told.now)


def test_the_last_use_is_the_newest_that_any_gateway_saw() -> None:
    told = Gateways("a", "b")
    told.tell("a", m=idle(100))
    told.tell("b", m=idle(40))
    assert told.load().busy_at == T0 - timedelta(seconds=40)
    told.pass_time(60, "a", "b")
    told.tell("a", m=idle(3))

    assert told.load().busy_at == T0 + timedelta(seconds=57)


def test_a_gateway_begun_after_us_may_have_replaced_one_that_ended_before_we_listened() -> None:
    told = Gateways("a")
    told.tell("a", uptime=5000)
    told.pass_time(5, "a")
    told.tell("b", uptime=2)

    assert told.load().known_since == T0


@pytest.mark.parametrize("how", ["gone", "not ready", "begins anew"])
@pytest.mark.parametrize(("silent", "last_use"), [(600, 600), (10, 0)])
def test_one_that_was_silent_and_ready_may_have_served_somebody_until_its_end(
    how: str, silent: float, last_use: float
) -> None:
    told = Gateways("a", "b")
    told.tell("a", m=idle(0))
    told.tell("b", m=idle(0))
    told.pass_time(silent, "a")
    if how == "gone":
        del told.there["b"]
    elif how == "not ready":
        told.become("b", is_ready=False)
    else:
        told.boots["b"] = "another"
        told.tell("b", whole=True, uptime=1)
    told.pass_time(20, "a")

    assert told.load().busy_at == T0 + timedelta(seconds=last_use)
    assert told.load("never-asked-for").busy_at == (T0 + timedelta(seconds=last_use) if last_use else None)


def test_one_that_was_silent_and_speaks_again_tells_itself_what_it_served() -> None:
    told = Gateways("a", "b")
    told.tell("b", m=idle(0))
    told.pass_time(600, "a")
    told.tell("b", whole=True, m=idle(500))

    assert told.load().busy_at == T0 + timedelta(seconds=100)


def test_a_gateway_begun_before_we_listened_may_have_replaced_one_that_served() -> None:
    told = Gateways("a", "b")
    told.tell("a", uptime=5000)
    told.tell("b", uptime=30)
    assert told.load().known_since == T0 - timedelta(seconds=30)
    told.pass_time(100, "a", "b")
    told.boots["b"] = "another"
    told.tell("b", whole=True, uptime=1)

    assert told.load().known_since == T0 - timedelta(seconds=30), "what it replaced was heard until its end"


@pytest.mark.parametrize(
    ("silent", "boot", "before", "after", "counted"),
    [
        (0, "boot-a", None, ModelLoad(in_flight=5, arrived=20), 20),  # the first requests for it
        (0, "boot-a", ModelLoad(in_flight=5, arrived=20), ModelLoad(arrived=26), 6),
        (2, "boot-a", ModelLoad(in_flight=5, arrived=20), ModelLoad(arrived=26), 6),  # it was dialled again at once
        (20, "boot-a", ModelLoad(arrived=20), ModelLoad(in_flight=3, arrived=600), 3),  # nobody saw what ran meanwhile
        (20, "boot-a", ModelLoad(in_flight=5, arrived=20), ModelLoad(in_flight=3, arrived=600), 0),
        (2, "another", ModelLoad(in_flight=5, arrived=20), ModelLoad(in_flight=7, arrived=9), 2),
    ],
)
def test_who_came_is_counted_where_somebody_saw_it(
    silent: float, boot: str, before: ModelLoad | None, after: ModelLoad, counted: int
) -> None:
    told = Gateways("a")
    told.tell("a", **({} if before is None else {"m": before}))
    begin = told.load().newest.arrived
    told.pass_time(silent)
    told.boots["a"] = boot
    told.tell("a", whole=silent > 0, m=after)

    assert told.load().newest.arrived - begin == counted


def test_of_a_gateway_that_comes_with_requests_those_count_that_it_has() -> None:
    told = Gateways("a", "b")
    told.tell("a", m=running(1))
    before = told.load().newest
    told.pass_time(1, "a")
    told.tell("b", m=ModelLoad(in_flight=7, arrived=1000))

    assert (told.load().newest.arrived - before.arrived, told.load().newest.load - before.load) == (7, 7)


@pytest.mark.parametrize("silent", [False, True])
def test_how_long_a_request_runs_is_reckoned_from_the_first_ones_on_and_not_from_what_ran_unseen(silent: bool) -> None:
    """Two gateways; requests of two seconds come in bursts, and one gateway is not heard for a while."""
    told, asked, ends = Gateways("a", "b"), {"a": 0, "b": 0}, dict[str, list[int]](a=[], b=[])
    for second in range(60):
        told.now += timedelta(seconds=1)
        for name in told.there:
            burst = 30 if second % 20 == 10 else 1 if second > 10 else 0
            asked[name] += burst
            ends[name] = [at for at in ends[name] if at > second] + [second + 2] * burst
            is_silent = silent and name == "b" and 34 < second < 55
            if not is_silent and asked[name]:
                told.tell(
                    name, whole=silent and second == 55, m=ModelLoad(in_flight=len(ends[name]), arrived=asked[name])
                )
        told.merger.see(told.there.values(), told.now)
        seconds = service_seconds(told.load().samples, told.now) if second > 12 else 2.0
        assert seconds is not None
        assert 1.3 < seconds < 3.0, second


def test_a_message_of_the_version_before_and_one_of_the_version_after_are_understood() -> None:
    old = LoadMessage.model_validate({"boot": "b", "models": {"default/m": {"waiting": 1, "inFlight": 2}}})
    new = LoadMessage.model_validate(
        {"version": VERSION + 1, "boot": "c", "sequence": 0, "isWhole": True, "moonPhase": "full", "models": {}}
    )
    told = Gateways("a", "b")

    told.merger.hear("a", old, T0)
    told.merger.hear("b", new, T0)

    assert told.load().newest.load == 3
    assert told.load().busy_at == T0


def test_the_history_stays_as_long_as_a_minute_and_no_longer() -> None:
    told = Gateways("a")
    told.tell("a", m=running(1))
    for second in range(300):
        told.pass_time(1)
        told.tell("a", m=running(second % 7 + 1))

    samples = told.load().samples
    assert len(samples) <= 62
    assert samples[0].at <= told.now - timedelta(seconds=60) < samples[1].at


def test_a_forgotten_model_leaves_nothing() -> None:
    told = Gateways("a")
    told.tell("a", m=running(1))
    told.tell("a", m=ModelLoad())
    told.merger.forget(["default/m"])

    assert told.load().busy_at is None


def test_messages_that_come_late_now_and_then_stop_the_way_down_only_for_as_long_as_they_are_missing() -> None:
    scaling_rule = {"minReplicas": 1, "maxReplicas": 4, "targetLoad": 12, "scaleDownDelaySeconds": 30}
    spec = a_model(scaling=scaling_rule).spec
    told = Gateways("a", "b")
    told.tell("a", m=running(5))
    told.tell("b", m=running(0))
    told.pass_time(60, "a", "b")
    memory, frozen, seconds = scaling.FRESH, 0, 0
    while (decision := scaling.decide(spec, 4, 4, told.load(), memory, told.now)).replicas == 4:
        assert seconds < 120
        memory, frozen = decision.memory, frozen + bool(told.load().missing)
        # The message of b that is due at the eighth second of any ten comes three seconds late.
        told.pass_time(1, *("ab" if seconds % 10 < 7 else "a"))
        seconds += 1

    assert frozen >= 3, "nothing went while b was missing"
    assert decision.replicas == 1
    assert seconds == 30 + frozen
