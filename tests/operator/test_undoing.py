"""Coming back to an earlier revision: which one, what is written, and what its owner is reminded of."""

import copy
from typing import Any

import pytest

from builders import a_manifest
from shoal_api import labels, modeldeployment
from shoal_operator import objects, rendering, rollout_telling, undoing
from shoal_operator.api_faults import NotThere
from shoal_operator.kinds import Manifest, revision


def a_record(name: str, number: int, *, made_from: dict[str, Any] | None = None, **annotations: str) -> Manifest:
    marks = {f"{labels.PREFIX}{key}": text for key, text in annotations.items()}
    metadata = {"name": f"qwen-{name}", "labels": {labels.REVISION: name}, "annotations": marks}
    return {"metadata": metadata, "revision": number, "data": {objects.MADE_FROM: made_from} if made_from else {}}


def a_stored(**spec: Any) -> Manifest:
    """A ModelDeployment as an API server keeps it: defaults filled in."""
    md = modeldeployment.read(a_manifest(**spec))
    filled = md.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {**a_manifest(**spec), "spec": filled, "status": {"conditions": []}}


def record_of(number: int = 1, **spec: Any) -> Manifest:
    """The record of the revision that such a manifest has."""
    md = modeldeployment.read(a_manifest(**spec))
    return a_record(rendering.revision(md), number, made_from=rendering.template(md), proven="true")


@pytest.mark.parametrize(
    ("records", "back"),
    [
        ([a_record("a", 1, proven="true"), a_record("now", 2)], "a"),
        ([a_record("a", 1, proven="true"), a_record("b", 2, proven="true"), a_record("now", 3)], "b"),
        ([a_record("a", 3, proven="true"), a_record("b", 2, proven="true"), a_record("now", 4)], "a"),
        ([a_record("a", 1, proven="true"), a_record("b", 2), a_record("now", 3)], "a"),
        ([a_record("a", 1, proven="true"), a_record("b", 2, proven="true", fault="x"), a_record("now", 3)], "a"),
        ([a_record("a", 1, proven="true"), a_record("b", 2, proven="true", canary="true"), a_record("now", 3)], "a"),
        ([a_record("b", 1, proven="true"), a_record("now", 2, proven="true")], "b"),
    ],
)
def test_undo_comes_back_to_the_newest_other_revision_that_worked(records: list[Manifest], back: str) -> None:
    assert revision(undoing.earlier(records, ["now"])) == back


@pytest.mark.parametrize(
    ("records", "asked", "words"),
    [
        ([a_record("now", 1, proven="true")], "", "none to come back to"),
        ([a_record("a", 1, proven="true")], "zz", "there are a"),
    ],
)
def test_where_there_is_none_it_says_so(records: list[Manifest], asked: str, words: str) -> None:
    with pytest.raises(NotThere, match=words):
        undoing.earlier(records, ["now"], asked)


def test_a_revision_can_be_asked_for_by_name() -> None:
    records = [a_record("a", 1), a_record("b", 2, proven="true"), a_record("now", 3)]

    assert revision(undoing.earlier(records, ["now"], "a")) == "a"


@pytest.mark.parametrize(
    "was",
    [
        {},
        {"engine": {"args": ["--max-model-len", "8"]}},
        {"engine": {"env": [{"name": "A", "value": "1"}], "image": "x:1"}},
        {"resources": {"gpu": 2}, "parallelism": {"tensor": 2}},
        {"scheduling": {"nodeSelector": {"a": "b"}}, "podTemplate": {"metadata": {"labels": {"a": "b"}}}},
        {"model": {"source": "hf://a/b", "credentials": {"secretName": "s"}}},
        {"model": {"source": "hf://a/b", "names": ["first", "second"]}},
        {"rollout": {"drainSeconds": 5}},
    ],
)
@pytest.mark.parametrize(
    "now",
    [
        {"engine": {"args": ["-O3"], "image": "y:2"}, "resources": {"gpu": 0}, "replicas": 3},
        {"model": {"source": "hf://c/d", "names": ["other"], "credentials": {"secretName": "t"}}},
        {
            "rollout": {"drainSeconds": 7, "strategy": "Surge"},
            "scaling": {"maxReplicas": 9},
            "queue": {"maxWaiting": 3},
        },
    ],
)
def test_the_spec_of_the_revision_comes_back_and_all_else_stays(was: dict[str, Any], now: dict[str, Any]) -> None:
    model = a_stored(**now)
    before = copy.deepcopy(model)

    changed = undoing.manifest(model, record_of(**was))

    md = modeldeployment.read(changed)
    assert rendering.revision(md) == rendering.revision(modeldeployment.read(a_manifest(**was)))
    for part in ("replicas", "scaling", "queue", "timeouts", "routing"):
        assert changed["spec"].get(part) == before["spec"].get(part)
    assert changed["spec"]["rollout"]["strategy"] == before["spec"]["rollout"]["strategy"]
    assert model == before


def test_a_record_without_a_spec_and_one_that_means_something_else_now_are_refused() -> None:
    with pytest.raises(NotThere, match="older version of Shoal"):
        undoing.manifest(a_stored(), a_record("a", 1, proven="true"))
    strange = record_of()
    strange["metadata"]["labels"][labels.REVISION] = "zz"
    with pytest.raises(NotThere, match="reads the spec of revision zz as another one"):
        undoing.manifest(a_stored(), strange)


@pytest.mark.parametrize(
    ("managers", "annotations", "words"),
    [
        (["kubectl-client-side-apply"], {"kubectl.kubernetes.io/last-applied-configuration": "{}"}, ["kubectl apply"]),
        (["kubectl"], {}, ["kubectl apply"]),
        (["argocd-controller", "shoal"], {}, ["argocd-controller writes this object as well"]),
        (["shoal", "shoal-rollout-undo"], {}, []),
    ],
)
def test_whoever_keeps_the_manifest_elsewhere_is_reminded(
    managers: list[str], annotations: dict[str, str], words: list[str]
) -> None:
    model = a_stored()
    model["metadata"] |= {"managedFields": [{"manager": each} for each in managers], "annotations": annotations}

    said = undoing.reminders(model, "now")

    assert [each in line for each, line in zip(words, said, strict=True)] == [True] * len(words)


@pytest.mark.parametrize(
    ("reason", "seen", "names"),
    [("Complete", 1, ["told", "own"]), ("InvalidSpec", 1, ["own"]), ("Complete", 0, ["own"])],
)
def test_the_present_revision_is_that_of_the_spec(reason: str, seen: int, names: list[str]) -> None:
    model = a_stored()
    conditions = [{"type": "Progressing", "reason": reason}]
    model["metadata"]["generation"] = 1
    model["status"] = {"revision": "told", "observedGeneration": seen, "conditions": conditions}
    own = rendering.revision(modeldeployment.read(a_manifest()))

    assert undoing.asked_for(model) == [own if name == "own" else name for name in names]


def test_status_tells_of_each_revision_what_it_is_and_what_is_waited_for() -> None:
    def a_pod(name: str, *, ready: bool) -> Manifest:
        marks = {labels.REVISION: name, labels.RANK: "0"}
        conditions = [{"type": "Ready", "status": str(ready)}]
        return {"metadata": {"name": name, "labels": marks}, "status": {"conditions": conditions}}

    model = a_stored()
    model["metadata"] |= {"namespace": "team", "generation": 2}
    progress = {"type": "Progressing", "reason": "RollingOut", "message": "1 replica of another revision than new"}
    model["status"] = {"revision": "new", "desiredReplicas": 2, "observedGeneration": 2, "conditions": [progress]}
    records = [a_record("older", 1, fault="[permanent] no such flag"), a_record("old", 2, proven="true")]
    records.append(a_record("new", 3, canary="true"))
    there = [a_pod("old", ready=True), a_pod("new", ready=True), a_pod("new", ready=False)]

    assert rollout_telling.describe(model, there, records) == [
        "team/qwen: revision new, 2 replicas wanted",
        "  new  1 ready, 1 starting (canary)",
        "  old  1 ready (has worked)",
        "  older  no replica",
        "    given up: no such flag",
        "  RollingOut: 1 replica of another revision than new",
    ]
    assert not rollout_telling.is_complete(model)
    progress["reason"] = "Complete"
    assert rollout_telling.is_complete(model)
    model["metadata"]["generation"] = 3
    assert not rollout_telling.is_complete(model), "the newest edit has not been seen"
