"""Manifests with a mistake: the cluster or a condition and an Event say what to do, and mending it is enough."""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from localkube.commands import Refused
from storykit.installation import Installation
from storykit.ledger import asking
from storykit.load import served_by
from storykit.models import Models, a_model

pytestmark = pytest.mark.cluster

HELD_SECONDS = 8
"""So long a request is held that comes when the fault is known and may pass."""
HELD_BEFORE_SECONDS = 150
"""So long one that was there before: it is answered as soon as a fault is known that cannot pass."""
SECRET = {"valueFrom": {"secretKeyRef": {"name": "hub-token", "key": "token"}}}


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        ({"engine": {"argz": ["--x"]}}, ["spec.engine.argz", "unknown field"]),
        ({"replicas": "two"}, ["spec.replicas", "integer"]),
        ({"model": {"source": "hub://shoal/x"}}, ["spec.model.source", "must begin with one of hf://"]),
        ({"resources": {"gpu": 2}}, ["spec.resources.gpu", "is more than parallelism.tensor"]),
    ],
    ids=["unknown-field", "wrong-type", "wrong-source", "too-many-gpus"],
)
def test_kubectl_apply_names_the_field(shoal: Installation, mistake: dict[str, Any], says: list[str]) -> None:
    with pytest.raises(Refused) as refused:
        Models(shoal.cluster, "default").apply(a_model("bad", **mistake))
    for words in says:
        assert words in str(refused.value)


@dataclass(frozen=True)
class Mistake:
    """What is wrong with a manifest that the cluster takes, and what is said about it."""

    reason: str
    says: tuple[str, ...]
    args: tuple[str, ...] = ()
    spec: Mapping[str, Any] | None = None
    is_permanent: bool = False


MISTAKES = {
    "unknown-flag": Mistake("CannotStart", ("no knob colour",), args=("--simulate-colour", "blue"), is_permanent=True),
    "missing-secret": Mistake(
        "ObjectMissing",
        ('secret "hub-token" not found', "make it in namespace story-"),
        spec={"engine": {"env": [{"name": "HUB", **SECRET}]}},
    ),
    "missing-image": Mistake(
        "ImageUnavailable",
        ("localhost/shoal-no-such:1", "check its name (spec.engine.image"),
        spec={"engine": {"image": "localhost/shoal-no-such:1"}},
    ),
    "no-such-gpu": Mistake(
        "NoSuchGpu",
        ("1 example.com/npu", "no node has more than 0", "spec.resources.gpuResource"),
        spec={"resources": {"gpu": 1, "gpuResource": "example.com/npu"}},
    ),
    "source-outside": Mistake(
        "InvalidSpec",
        ("spec.model.source", "put the model on a claim and use pvc://"),
        spec={"model": {"source": "file:///etc/shadow"}},
        is_permanent=True,
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_condition_an_event_and_the_answer_say_what_to_do_and_mending_is_enough(
    shoal: Installation, story: Models, tmp_path: Path, mistake: Mistake
) -> None:
    name = f"bad-{mistake.reason.lower()}"
    before = _starts(shoal)
    queue = {"maxWaitSeconds": HELD_BEFORE_SECONDS if mistake.is_permanent else HELD_SECONDS}
    story.apply(a_model(name, *mistake.args, queue=queue, **(mistake.spec or {})))
    story.until(lambda: name in story.status(name).get("names", []), "the model is known by its name", 60, name)
    request = asking(shoal.cluster, tmp_path, shoal.url, name, "--rate", "1", "--seconds", "1", key=shoal.key)
    with ExitStack() as stack:
        if mistake.is_permanent:
            held = stack.enter_context(request)
        sentence = story.wait_reason(name, "Ready", mistake.reason)
        _says(mistake.says, sentence)
        story.until(
            lambda: any(
                reason == mistake.reason and all(words in message for words in mistake.says)
                for reason, message in story.events(name)
            ),
            f"an Event {mistake.reason} says so, too",
            240,
            name,
        )
        if not mistake.is_permanent:
            held = stack.enter_context(request)
        held.client.wait(HELD_SECONDS + 60)
        (entry,) = held.finish()
        assert (entry.status, entry.outcome) == (503, "refused"), held.told()
        _says(mistake.says, json.loads(entry.because)["error"]["message"])

    story.apply(a_model(name, queue=queue))
    story.wait_ready(name)
    served_by(shoal, tmp_path, name)
    assert _starts(shoal) == before, "neither operator nor gateway was started again"


def test_a_secret_that_is_made_later_is_enough(shoal: Installation, story: Models, tmp_path: Path) -> None:
    story.apply(a_model("late", **(MISTAKES["missing-secret"].spec or {})))
    story.wait_reason("late", "Ready", "ObjectMissing")
    before = story.starts("late")
    story.cluster.kubectl("create", "secret", "generic", "hub-token", "--from-literal=token=x", "-n", story.namespace)
    story.wait_ready("late")
    assert story.starts("late") == before, "the same pod, started once"
    served_by(shoal, tmp_path, "late")


def test_a_bad_change_of_a_served_model_takes_nothing_away(shoal: Installation, story: Models, tmp_path: Path) -> None:
    story.apply(a_model("served"))
    story.wait_ready("served")
    before = story.starts("served")
    with asking(shoal.cluster, tmp_path, shoal.url, "served", "--rate", "5", key=shoal.key) as ledger:
        story.until(lambda: ledger.count("ok"), "the load runs", 180)
        story.apply(a_model("served", "--simulate-colour", "blue"))
        told = story.wait_reason("served", "Progressing", "CannotStart")
        assert "no knob colour" in told
        assert story.condition("served", "Ready")["status"] == "True"
        story.apply(a_model("served"))
        story.wait_reason("served", "Progressing", "Complete")
        ledger.all_ok()
    assert story.starts("served") == before, "the old replica served all the time and is still there"


def test_a_name_that_is_taken_is_told_and_another_one_heals_it(
    shoal: Installation, story: Models, tmp_path: Path
) -> None:
    story.apply(a_model("first", model={"names": ["wanted"]}))
    story.wait_ready("first")
    story.apply(a_model("second", model={"names": ["wanted"]}))
    told = story.wait_reason("second", "NamesGranted", "NameTaken")
    _says(("'wanted' belongs to", f"{story.namespace}/first", "spec.model.names"), told)
    story.until(lambda: ("NameTaken", told) in story.events("second"), "an Event says so, too", 240, "second")
    assert served_by(shoal, tmp_path, "wanted") == f"{story.namespace}/first"
    before = story.starts("first")

    story.apply(a_model("second", model={"names": ["free"]}))
    story.wait_reason("second", "NamesGranted", "AllGranted")
    story.wait_ready("second")
    assert served_by(shoal, tmp_path, "free") == f"{story.namespace}/second"
    assert story.starts("first") == before


def test_an_object_of_somebody_else_with_our_name_is_told_and_left_alone(story: Models) -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "occupied-shoal"}}
    story.apply(account)
    story.apply(a_model("occupied"))
    told = story.wait_reason("occupied", "Ready", "NameOccupied")
    _says(("ServiceAccount", "occupied-shoal"), told)
    story.until(lambda: ("NameOccupied", told) in story.events("occupied"), "an Event says so, too", 240, "occupied")
    found = story.cluster.get("serviceaccount", "occupied-shoal", "-n", story.namespace)
    assert "ownerReferences" not in found["metadata"]

    story.cluster.kubectl("delete", "serviceaccount", "occupied-shoal", "-n", story.namespace)
    story.wait_ready("occupied")


def _says(words: tuple[str, ...], sentence: str) -> None:
    for each in words:
        assert each in sentence, sentence


def _starts(shoal: Installation) -> dict[str, int]:
    return {
        pod["metadata"]["uid"]: sum(each["restartCount"] for each in pod["status"]["containerStatuses"])
        for pod in [*shoal.pods("operator"), *shoal.pods("gateway")]
    }
