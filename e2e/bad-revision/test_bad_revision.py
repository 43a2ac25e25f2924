"""A revision that cannot become ready: the old one serves or is restored, and the condition has the engine's words."""

from pathlib import Path

import pytest

from storykit import rollouts
from storykit.installation import Installation
from storykit.ledger import asking
from storykit.models import Models, a_model

pytestmark = [pytest.mark.cluster, pytest.mark.nightly]

WORDS = "the weights are for another architecture"
GIVES_UP = ("--simulate-fail-at", "Engine", "--simulate-fail-permanently", "true", "--simulate-fail-sentence", WORDS)
NEVER_READY = ("--simulate-engine-seconds", "3600")
DEADLINE_SECONDS = 45
"""Long enough for a simulated engine on a busy machine, so that the old revision can come back under it."""


@pytest.mark.parametrize(
    ("strategy", "args", "words"),
    [
        ("Auto", GIVES_UP, WORDS),
        ("DeleteFirst", GIVES_UP, WORDS),
        ("DeleteFirst", NEVER_READY, f"was not ready within {DEADLINE_SECONDS} s"),
    ],
    ids=["beside", "restored", "deadline"],
)
def test_the_old_revision_serves_again_and_undo_ends_it(
    shoal: Installation, story: Models, tmp_path: Path, strategy: str, args: tuple[str, ...], words: str
) -> None:
    how = {"strategy": strategy, "startDeadlineSeconds": DEADLINE_SECONDS, "drainSeconds": 20}
    story.apply(a_model("bad", rollout=how))
    story.wait_ready("bad")
    (old,) = rollouts.ready_by_revision(story, "bad")
    before = set(story.starts("bad"))
    with asking(shoal.cluster, tmp_path, shoal.url, "bad", "--rate", "10", key=shoal.key) as ledger:
        story.until(lambda: ledger.count("ok"), "the load runs", 60)
        story.apply(a_model("bad", *args, rollout=how))
        story.until(
            lambda: (
                words in story.condition("bad", "Progressing").get("message", "")
                and story.condition("bad", "Progressing")["reason"] == "CannotStart"
            ),
            "the condition says why",
            120,
            "bad",
        )
        seconds = story.wait_ready("bad")
        assert list(rollouts.ready_by_revision(story, "bad")) == [old]
        assert (set(story.starts("bad")) == before) == (strategy == "Auto"), "what served beside it was not touched"
        told = rollouts.rollout(story, "status", "bad")
        assert "given up: " in told
        assert words in told

        assert f"asks for revision {old} again" in rollouts.rollout(story, "undo", "bad")
        story.wait_reason("bad", "Progressing", "Complete")
        assert story.status("bad")["revision"] == old
        entries = ledger.all_ok()
    print(
        f"{strategy}: ready again {seconds:.1f} s after the condition said why; {len(entries)} requests ok, the "
        f"longest took {rollouts.longest_wait(ledger):.1f} s"
    )


def test_what_is_missing_is_said_before_the_only_replica_goes(
    shoal: Installation, story: Models, tmp_path: Path
) -> None:
    how = {"strategy": "DeleteFirst", "drainSeconds": 20}
    story.apply(a_model("only", rollout=how))
    story.wait_ready("only")
    before = set(story.starts("only"))
    needs = {"name": "HUB", "valueFrom": {"secretKeyRef": {"name": "hub-token", "key": "token"}}}
    with asking(shoal.cluster, tmp_path, shoal.url, "only", "--rate", "10", key=shoal.key) as ledger:
        story.until(lambda: ledger.count("ok"), "the load runs", 60)
        story.apply(a_model("only", rollout=how, engine={"env": [needs]}))
        sentence = story.wait_reason("only", "Progressing", "CannotStart")
        assert 'the Secret "hub-token" is not in namespace' in sentence
        assert set(story.starts("only")) == before
        story.cluster.kubectl(
            "create", "secret", "generic", "hub-token", "--from-literal=token=x", "-n", story.namespace
        )
        seconds = story.until(lambda: before.isdisjoint(story.starts("only")), "the new one came", 120, "only")
        story.wait_ready("only")
        entries = ledger.all_ok()
    print(f"taken up {seconds:.1f} s after the Secret was made; {len(entries)} requests ok")
