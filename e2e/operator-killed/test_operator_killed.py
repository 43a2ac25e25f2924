"""The operator's pod is killed in the middle of its work: it goes on where it was, nothing is made twice."""

from pathlib import Path
from typing import Any

import pytest

from storykit.installation import NAMESPACE, Installation
from storykit.ledger import asking
from storykit.models import BELONGINGS, Models, a_model

pytestmark = [pytest.mark.cluster, pytest.mark.nightly, pytest.mark.alone]

AGAIN_SECONDS = 150.0
"""A new pod starts, and waits until the Lease of the killed one is over."""


def test_killed_while_models_are_made(shoal: Installation, story: Models) -> None:
    names = ["make-a", "make-b", "make-c"]
    for name in names:
        story.apply(a_model(name, replicas=2))
        if name == "make-a":
            story.until(lambda: story.pods("make-a"), "the first pod is there", 60, "make-a")
    _kill_the_operator(shoal)
    for name in names:
        story.wait_ready(name, replicas=2, seconds=AGAIN_SECONDS)
        assert len(_ever(story, name)) == 2, "no pod was made that was not wanted"
        alone = story.belongings(name, BELONGINGS.replace("pods,", "").replace("endpointslices,", ""))
        assert len(alone) == 4, alone
        assert set(story.starts(name).values()) == {0}


def test_killed_while_a_revision_replaces_another(shoal: Installation, story: Models, tmp_path: Path) -> None:
    story.apply(a_model("change", replicas=2))
    story.wait_ready("change", replicas=2)
    old = set(story.starts("change"))
    with asking(shoal.cluster, tmp_path, shoal.url, "change", "--rate", "10", key=shoal.key) as ledger:
        story.until(lambda: ledger.count("ok"), "the load runs", 60)
        story.apply(a_model("change", "--simulate-answer-tokens", "20", replicas=2))
        story.until(lambda: set(story.starts("change")) - old, "the first new pod is there", 60, "change")
        _kill_the_operator(shoal)
        story.until(lambda: len(shoal.pods("operator")) == 1, "another operator's pod is there", 60)
        after = len(ledger.entries)
        story.until(lambda: len(ledger.entries) >= after + 20, "serving goes on without an operator", 60)
        story.until(lambda: old.isdisjoint(story.starts("change")), "the old pods are gone", AGAIN_SECONDS, "change")
        story.wait_ready("change", replicas=2)
        ledger.all_ok()
    assert len(_ever(story, "change")) == 4, "two pods of each revision, none twice"


def test_killed_while_a_model_is_deleted(shoal: Installation, story: Models, tmp_path: Path) -> None:
    for name in ("goes", "stays"):
        story.apply(a_model(name, replicas=2))
    for name in ("goes", "stays"):
        story.wait_ready(name, replicas=2)
    before = story.starts("stays")
    with asking(shoal.cluster, tmp_path, shoal.url, "stays", "--rate", "10", key=shoal.key) as ledger:
        story.until(lambda: ledger.count("ok"), "the load runs", 60)
        story.cluster.kubectl("delete", "modeldeployments.shoal.dev", "goes", "-n", story.namespace, "--wait=false")
        _kill_the_operator(shoal)
        story.until(lambda: not story.belongings("goes"), "nothing of it is left", AGAIN_SECONDS)
        story.apply(a_model("goes"))
        story.wait_ready("goes", seconds=AGAIN_SECONDS)
        ledger.all_ok()
    assert story.starts("stays") == before
    assert len(_ever(story, "stays")) == 2


def _kill_the_operator(shoal: Installation) -> None:
    (pod,) = shoal.pods("operator")
    name = pod["metadata"]["name"]
    shoal.cluster.kubectl("delete", "pod", name, "-n", NAMESPACE, "--grace-period=0", "--force")


def _ever(story: Models, name: str) -> set[Any]:
    """The UIDs of all pods that were ever scheduled for the model."""
    events = story.cluster.get("events", "-n", story.namespace, "--field-selector", "reason=Scheduled")["items"]
    about = [event["involvedObject"] for event in events]
    return {pod["uid"] for pod in about if pod["name"].rsplit("-", 2)[0] == name}
