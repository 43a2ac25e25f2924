"""A canary gets its share beside the old revision, waits to be promoted, and the whole can be undone."""

from pathlib import Path

import pytest

from storykit import rollouts
from storykit.installation import Installation
from storykit.ledger import asking
from storykit.models import Models, a_model
from storykit.replicas import journal

pytestmark = [pytest.mark.cluster, pytest.mark.nightly]

HOW = {"canary": {"replicas": 1}, "drainSeconds": 20}
PACE = ("--simulate-gap-seconds", "0.05")
REQUESTS = 120


def test_a_canary_waits_is_promoted_and_undone(shoal: Installation, story: Models, tmp_path: Path) -> None:
    story.apply(a_model("cn", *PACE, replicas=3, rollout=HOW))
    story.wait_ready("cn", replicas=3)
    (old,) = rollouts.ready_by_revision(story, "cn")
    with asking(shoal.cluster, tmp_path, shoal.url, "cn", "--rate", "10", key=shoal.key) as ledger:
        story.until(lambda: ledger.count("ok"), "the load runs", 60)
        story.apply(a_model("cn", *PACE, "--simulate-answer-tokens", "20", replicas=3, rollout=HOW))
        story.wait_reason("cn", "Progressing", "CanaryWaits")
        by_revision = rollouts.ready_by_revision(story, "cn")
        assert sorted(by_revision.values()) == [1, 2]
        (new,) = set(by_revision) - {old}

        canary = next(pod for pod in story.pods("cn") if rollouts.revision(pod) == new)
        before, seen = len(journal(story, "cn", canary)), len(ledger.entries)
        story.until(lambda: len(ledger.entries) - seen >= REQUESTS, "the load goes on", 120)
        share = (len(journal(story, "cn", canary)) - before) / (len(ledger.entries) - seen)
        assert 0.2 < share < 0.5, "about a third: its part of three replicas"
        assert "(canary, has worked)" in rollouts.rollout(story, "status", "cn")

        assert f"revision {new} takes over" in rollouts.rollout(story, "promote", "cn")
        promoted = story.until(lambda: rollouts.is_complete(story, "cn", old), "all are new", 180, "cn")
        assert set(rollouts.ready_by_revision(story, "cn")) == {new}

        said = rollouts.rollout(story, "undo", "cn")
        assert f"asks for revision {old} again" in said
        assert "the next `kubectl apply` brings that one back" in said
        undone = story.until(lambda: rollouts.is_complete(story, "cn", new), "all are old", 180, "cn")
        entries = ledger.all_ok()
    print(
        f"the canary got {share:.0%} of the requests; promoted in {promoted:.1f} s, undone in {undone:.1f} s; "
        f"{len(entries)} requests ok"
    )
