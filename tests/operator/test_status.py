"""What the user is told, for each thing that can be seen."""

from datetime import timedelta

import pytest

from builders import a_model
from replicas import PASSING, PERMANENT, T0, a_replica, desired
from shoal_api.conditions import ConditionType, Reason
from shoal_api.naming import Grant
from shoal_operator import scaling, status
from shoal_operator.load import UNKNOWN
from shoal_operator.observed import NOT_ANSWERING, Observed, Replica, ReplicaState, Revision
from shoal_operator.scaling import FRESH

READY, STARTING, DRAINING, FAILED = (
    ReplicaState.READY,
    ReplicaState.STARTING,
    ReplicaState.DRAINING,
    ReplicaState.FAILED,
)
GRANT = Grant(("qwen",), ())
OLD, NEW = Revision("old", proven=True), Revision("new", proven=True)
FAULTY = Revision("new", fault=PERMANENT)


def ready(name: str = "a", revision: str = "new") -> Replica:
    return a_replica(name, READY, revision)


@pytest.mark.parametrize(
    ("wanted", "observed", "is_ready", "progressing"),
    [
        (1, Observed((ready(),), (NEW,)), ("True", Reason.REPLICAS_READY), ("False", Reason.COMPLETE)),
        (0, Observed((), (NEW,)), ("True", Reason.AT_ZERO), ("False", Reason.COMPLETE)),
        (0, Observed((a_replica(state=DRAINING),), (NEW,)), ("True", Reason.AT_ZERO), ("True", Reason.ROLLING_OUT)),
        (1, Observed(), ("False", Reason.STARTING), ("True", Reason.STARTING)),
        (1, Observed((a_replica(state=STARTING),)), ("False", Reason.STARTING), ("True", Reason.STARTING)),
        (
            2,
            Observed((ready(), a_replica("b", STARTING)), (NEW,)),
            ("True", Reason.SOME_REPLICAS_READY),
            ("True", Reason.STARTING),
        ),
        (
            1,
            Observed((a_replica(state=FAILED, last_words=PASSING),), (NEW,)),
            ("False", Reason.RESTARTING),
            ("True", Reason.RESTARTING),
        ),
        (
            1,
            Observed((a_replica(state=STARTING, last_words=PASSING),), (NEW,)),
            ("False", Reason.RESTARTING),
            ("True", Reason.RESTARTING),
        ),
        (
            1,
            Observed((a_replica(state=STARTING, stage=NOT_ANSWERING, last_words=PASSING),), (NEW,)),
            ("False", Reason.RESTARTING),
            ("True", Reason.RESTARTING),
        ),
        (1, Observed((), (FAULTY,)), ("False", Reason.CANNOT_START), ("False", Reason.CANNOT_START)),
        (1, Observed(obstacle=PERMANENT), ("False", Reason.CANNOT_START), ("False", Reason.CANNOT_START)),
        # the old revision serves, or is restored, while that of the manifest cannot start
        (
            1,
            Observed((ready(revision="old"),), (OLD, FAULTY)),
            ("True", Reason.SOME_REPLICAS_READY),
            ("False", Reason.CANNOT_START),
        ),
        (
            1,
            Observed((a_replica("a", STARTING, "old"),), (OLD, FAULTY)),
            ("False", Reason.STARTING),
            ("True", Reason.STARTING),
        ),
        (
            2,
            Observed((ready(revision="old"), a_replica("b", STARTING)), (OLD, Revision("new"))),
            ("True", Reason.SOME_REPLICAS_READY),
            ("True", Reason.ROLLING_OUT),
        ),
        # proven once and at fault now: what runs goes on, what is missing is told
        (
            2,
            Observed((ready(),), (Revision("new", proven=True, fault=PERMANENT),)),
            ("True", Reason.SOME_REPLICAS_READY),
            ("False", Reason.CANNOT_START),
        ),
    ],
)
def test_ready_and_progressing_say_what_is_seen(
    wanted: int, observed: Observed, is_ready: tuple[str, Reason], progressing: tuple[str, Reason]
) -> None:
    md = a_model(replicas=wanted)

    told = status.derive(md, desired(wanted), scaling.decide(md.spec, 0, 0, UNKNOWN, FRESH, T0), observed, GRANT, T0)

    found = {c.type: c for c in told.conditions}
    assert (found[ConditionType.READY].status, found[ConditionType.READY].reason) == is_ready
    assert (found[ConditionType.PROGRESSING].status, found[ConditionType.PROGRESSING].reason) == progressing
    assert found[ConditionType.ACTIVE].status == ("True" if wanted else "False")
    assert all(c.message for c in told.conditions)


@pytest.mark.parametrize("observed", [Observed((), (FAULTY,)), Observed((ready(revision="old"),), (OLD, FAULTY))])
def test_the_replicas_own_sentence_reaches_the_condition_unchanged(observed: Observed) -> None:
    md = a_model(replicas=1)

    told = status.derive(md, desired(1), scaling.decide(md.spec, 0, 0, UNKNOWN, FRESH, T0), observed, GRANT, T0)

    assert [PERMANENT.sentence in c.message for c in told.conditions if c.type is ConditionType.READY] == [True]


def test_a_time_moves_only_when_the_status_flips() -> None:
    md = a_model(replicas=1)
    decision = scaling.decide(md.spec, 0, 0, UNKNOWN, FRESH, T0)
    stories = [
        (0, Observed()),
        (10, Observed((a_replica(state=FAILED, last_words=PASSING),))),  # False for another reason
        (20, Observed((ready(),), (NEW,))),
    ]
    times = []
    for seconds, observed in stories:
        now = T0 + timedelta(seconds=seconds)
        told = status.derive(md, desired(1), decision, observed, GRANT, now)
        md = md.model_copy(update={"status": told})
        condition = status.condition(told, ConditionType.READY)
        assert condition is not None
        times.append((condition.last_transition_time - T0).total_seconds())

    assert times == [0, 0, 20]


def test_counts_generation_and_names_are_those_seen() -> None:
    md = a_model(replicas=2, metadata={"generation": 7})
    observed = Observed((ready("a"), a_replica("b", STARTING), a_replica("c", DRAINING)), (NEW,))

    told = status.derive(md, desired(2), scaling.decide(md.spec, 0, 0, UNKNOWN, FRESH, T0), observed, GRANT, T0)

    assert (told.desired_replicas, told.replicas, told.ready_replicas) == (2, 3, 1)
    assert (told.observed_generation, told.revision, told.names) == (7, "new", ["qwen"])
    assert {c.observed_generation for c in told.conditions} == {7}
    assert told.last_scale is not None
    assert (told.last_scale.from_replicas, told.last_scale.to_replicas) == (0, 2)


def test_a_taken_name_is_told_with_its_holder() -> None:
    md = a_model(replicas=0)

    told = status.derive(
        md, desired(0), scaling.decide(md.spec, 0, 0, UNKNOWN, FRESH, T0), Observed(), Grant((), (("gpt", "a/b"),)), T0
    )

    condition = status.condition(told, ConditionType.NAMES_GRANTED)
    assert condition is not None
    assert (condition.status, condition.reason) == ("False", Reason.NAME_TAKEN)
    assert "'gpt' belongs to a/b" in condition.message


def test_a_refused_manifest_keeps_the_counts_and_names_the_field() -> None:
    md = a_model(replicas=1)
    before = status.derive(
        md, desired(1), scaling.decide(md.spec, 0, 0, UNKNOWN, FRESH, T0), Observed((ready(),), (NEW,)), GRANT, T0
    )

    told = status.refused(before, 2, "spec.scaling: not yet", Reason.NOT_BUILT, T0)

    condition = status.condition(told, ConditionType.READY)
    assert condition is not None
    assert (condition.status, condition.reason, condition.message) == (
        "False",
        Reason.NOT_BUILT,
        "spec.scaling: not yet",
    )
    assert told.ready_replicas == 1
