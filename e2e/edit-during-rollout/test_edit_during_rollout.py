"""An edit in the middle of a rollout: the newest wish counts at once, back or forth, and no request is lost."""

from pathlib import Path

import pytest

from storykit import rollouts
from storykit.installation import Installation
from storykit.ledger import asking
from storykit.models import Models, a_model

pytestmark = pytest.mark.cluster

SLOW = ("--simulate-engine-seconds", "600")
THIRD = ("--simulate-answer-tokens", "20")
HOW = {"drainSeconds": 10}
"""A simulated engine that starts ends only with its pod's grace period, which is made of this (42 s)."""


def test_the_third_revision_does_not_wait_for_the_second(shoal: Installation, story: Models, tmp_path: Path) -> None:
    story.apply(a_model("edit", replicas=2, rollout=HOW))
    story.wait_ready("edit", replicas=2)
    (first,) = rollouts.ready_by_revision(story, "edit")
    with asking(shoal.cluster, tmp_path, shoal.url, "edit", "--rate", "10", key=shoal.key) as ledger:
        story.until(lambda: ledger.count("ok"), "the load runs", 180)
        story.apply(a_model("edit", *SLOW, replicas=2, rollout=HOW))
        story.until(lambda: len(_revisions(story)) == 2, "a pod of the second revision is there", 180, "edit")
        (second,) = _revisions(story) - {first}

        story.apply(a_model("edit", *THIRD, replicas=2, rollout=HOW))
        at_once = story.until(lambda: _revisions(story) - {first, second}, "one of the third is", 30, "edit")
        whole = story.until(lambda: rollouts.is_complete(story, "edit", first), "all are new", 240, "edit")
        (third,) = rollouts.ready_by_revision(story, "edit")
        assert third not in (first, second)
        kept = set(story.starts("edit"))

        story.apply(a_model("edit", *SLOW, replicas=2, rollout=HOW))
        story.until(lambda: len(_revisions(story)) == 2, "the second one's pod is there again", 180, "edit")
        story.apply(a_model("edit", *THIRD, replicas=2, rollout=HOW))
        back = story.until(lambda: rollouts.is_complete(story, "edit", second), "it is gone again", 240, "edit")
        assert set(story.starts("edit")) == kept, "an edit back takes nothing away that serves"
        entries = ledger.all_ok()
    print(
        f"the third revision's first pod after {at_once:.1f} s, complete after {at_once + whole:.1f} s; an edit back "
        f"complete after {back:.1f} s; {len(entries)} requests ok"
    )


def _revisions(story: Models) -> set[str]:
    """Of the pods that nobody told to go."""
    return {rollouts.revision(pod) for pod in story.pods("edit") if not pod["metadata"].get("deletionTimestamp")}
