"""What a person reads: progress, the first-start verdict, the example request, `shoal status`."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from builders import a_model
from replicas import PASSING, PERMANENT, T0, a_replica, desired
from shoal_api.load import LoadMessage, ModelLoad
from shoal_api.naming import Grant
from shoal_operator import first_start, greeting, machine, routing, scaling, status, status_report, telling
from shoal_operator.announcing import Announcer
from shoal_operator.load import UNKNOWN
from shoal_operator.observed import NOT_ANSWERING, Observed, Replica, ReplicaState, Revision
from shoal_operator.outcome import Outcome
from shoal_operator.planning import Plan
from shoal_operator.scaling import FRESH
from shoal_operator.status_report import GatewayReport, ModelReport, UpReport

READY, STARTING, DRAINING, FAILED = (
    ReplicaState.READY,
    ReplicaState.STARTING,
    ReplicaState.DRAINING,
    ReplicaState.FAILED,
)
MD = a_model(replicas=1, metadata={"creationTimestamp": T0.isoformat(), "uid": "u"})


def outcome(*replicas: Replica, revisions: tuple[Revision, ...] = (Revision("new"),), wanted: int = 1) -> Outcome:
    md = a_model(replicas=wanted)
    observed = Observed(replicas, revisions)
    told = status.derive(
        md, desired(wanted), scaling.decide(md.spec, 0, 0, UNKNOWN, FRESH, T0), observed, Grant(("qwen",), ()), T0
    )
    return Outcome(desired(wanted), observed, Plan(), told)


def test_each_stage_is_told_once_with_the_time_since_the_start() -> None:
    announcer = Announcer()
    said = []
    for seconds, state, stage in (
        (0, STARTING, ""),
        (1, STARTING, "Ray"),
        (2, STARTING, "Ray"),
        (30, STARTING, "Engine"),
        (39, STARTING, "Ready"),
        (40, READY, "Ready"),
        (50, STARTING, NOT_ANSWERING),
    ):
        replica = a_replica("r", state, age=0, stage=stage)
        said += announcer.lines(MD, outcome(replica), T0 + timedelta(seconds=seconds))

    assert [line for line in said if line.startswith("r: ")] == [
        "r: process starts  (0 s)",
        "r: Ray  (1 s)",
        "r: Engine  (30 s)",
        "r: ready  (40 s)",
        "r: does not answer any more  (50 s)",
    ]
    assert [line.split()[1] for line in said if line.startswith("model=")] == [
        "reason=Starting",
        "reason=ReplicasReady",
        "reason=Restarting",
    ]


def test_an_end_is_told_with_its_own_sentence_and_whether_it_is_tried_again() -> None:
    passing = Announcer().lines(MD, outcome(a_replica("r", FAILED, last_words=PASSING)), T0)
    permanent = Announcer().lines(MD, outcome(a_replica("r", FAILED, last_words=PERMANENT)), T0)

    assert f"r: {PASSING.sentence} (tried again soon)" in passing
    assert f"r: {PERMANENT.sentence}" in permanent


@pytest.mark.parametrize(
    ("outcomes", "sentences"),
    [
        ([outcome()], []),
        ([outcome(a_replica(state=STARTING))], []),
        ([outcome(a_replica(state=FAILED, last_words=PASSING, restarts=1))], []),
        ([outcome(a_replica(state=FAILED, last_words=PASSING, restarts=2))], ["m0: the hub did not answer"]),
        ([outcome(revisions=(Revision("new", fault=PERMANENT),))], [f"m0: {PERMANENT.sentence}"]),
        ([outcome(revisions=(Revision("new", fault=PERMANENT),)), outcome(a_replica(state=STARTING))], []),
        (
            [outcome(revisions=(Revision("new", fault=PERMANENT),))] * 2,
            [f"m0: {PERMANENT.sentence}", f"m1: {PERMANENT.sentence}"],
        ),
        ([], []),
    ],
)
def test_the_first_start_has_failed_when_no_model_has_hope(outcomes: list[Outcome], sentences: list[str]) -> None:
    assert first_start.failure((f"m{i}", o) for i, o in enumerate(outcomes)) == sentences


@pytest.mark.parametrize(
    ("config", "template", "kind"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, True, "chat"),
        ({"architectures": ["LlamaForCausalLM"]}, False, "completions"),
        ({"architectures": ["Qwen2_5_VLForConditionalGeneration"]}, True, "chat"),
        ({"architectures": ["BertModel"]}, False, "embeddings"),
        ({}, True, "unknown"),
    ],
)
def test_the_example_suits_the_model(config: dict[str, Any], template: bool, kind: str) -> None:
    assert greeting.kind_of(config, template) == kind


def test_an_unreadable_model_is_shown_the_list_of_models(tmp_path: Path) -> None:
    assert machine.model_kind(tmp_path) == "unknown"
    assert greeting.curl("http://h:1", "m", "unknown") == "curl http://h:1/v1/models"


def test_only_ready_replicas_are_routed_to() -> None:
    observed = Observed(
        (a_replica("a"), a_replica("b", DRAINING), a_replica("c", STARTING), a_replica("d", FAILED)),
        (Revision("new", proven=True),),
    )
    told = status.derive(
        MD, desired(1), scaling.decide(MD.spec, 0, 0, UNKNOWN, FRESH, T0), observed, Grant(("qwen",), ()), T0
    )

    route = routing.route(MD, told, observed)

    assert [(e.replica, e.uid, e.port) for e in route.endpoints] == [("a", "uid-a", 30000)]
    assert (route.names, route.served_name, route.cannot_start) == (["qwen"], "qwen", "")


def test_the_sentence_of_a_model_that_cannot_start_reaches_its_route() -> None:
    found = outcome(revisions=(Revision("new", fault=PERMANENT),))

    route = routing.route(MD, found.status, found.observed)

    assert (route.cannot_start, route.condition, route.endpoints) == (PERMANENT.sentence, PERMANENT.sentence, [])


def test_status_tells_everything_about_a_run() -> None:
    replica = a_replica("qwen-new-0", FAILED, last_words=PASSING, restarts=2, since=5)
    found = outcome(replica)
    report = UpReport(
        pid=7,
        address="127.0.0.1:8000",
        started=T0,
        manifests=["m.yaml"],
        manifest_fault="m.yaml: spec.replicas: is wrong",
        gateway=GatewayReport(ready=True, restarts=1, last_words="the gateway ended (SIGKILL)", internal_port=9090),
        models=[
            ModelReport(
                id="default/qwen",
                status=found.status,
                replicas=[status_report.of_replica(replica, 9, Path("/logs/qwen.log"))],
            )
        ],
    )
    load = LoadMessage(boot="b", models={"default/qwen": ModelLoad(waiting=3, in_flight=0)})

    text = "\n".join(telling.describe(report, load, T0))
    without_load = "\n".join(telling.describe(report, None, T0))

    for expected in (
        "http://127.0.0.1:8000/v1  (shoal up, pid 7; gateway ready, started again once: the gateway ended (SIGKILL))",
        "the files are not carried out: m.yaml: spec.replicas: is wrong",
        "default/qwen  0 of 1 replicas ready, 3 waiting, 0 in flight, revision new",
        "names: qwen",
        "Ready=False Restarting: qwen-new-0 is started again (2 so far): the hub did not answer",
        "qwen-new-0  Failed for 5 s, started again 2 times; log /logs/qwen.log",
        "last words: the hub did not answer",
    ):
        assert expected in text
    assert "load unknown" in without_load
