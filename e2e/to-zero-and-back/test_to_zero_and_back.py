"""A model that nobody asks for goes to zero by itself, and requests that come then wait for it: none is lost."""

from pathlib import Path

import pytest

from storykit import reactions, replicas
from storykit.installation import Installation
from storykit.ledger import asking
from storykit.models import Models, a_followed_model

pytestmark = pytest.mark.cluster

IDLE_SECONDS = 10
ROUNDS = 2
EACH = 100
WORDS = ("--rate", "20", "--seconds", "5")


def test_an_idle_model_goes_and_the_next_request_wakes_it(shoal: Installation, story: Models, tmp_path: Path) -> None:
    story.apply(a_followed_model("zz", minReplicas=0, maxReplicas=1, idleSeconds=IDLE_SECONDS))
    story.wait_reason("zz", "ScalingActive", "FollowsLoad")
    assert not story.pods("zz"), "nobody asked yet"

    for number in range(ROUNDS):
        with (
            reactions.watching(story, "zz") as pods,
            asking(shoal.cluster, tmp_path, shoal.url, "zz", *WORDS, key=shoal.key) as ledger,
        ):
            entries = ledger.whole()
            (pod,) = story.pods("zz")
            served = sum("completions" in entry["path"] for entry in replicas.journal(story, "zz", pod))
        assert len(entries) == EACH
        assert reactions.lost(entries) == 0, ledger.told()
        assert served == EACH, "each went to an engine once"
        decided = reactions.decisions(shoal, story, "zz")
        woken = [each for each in decided if each.reason == "Woken"]
        assert len(woken) == number + 1
        print(f"{EACH} requests, 0 lost: {reactions.reaction(entries, woken, pods, 0.0)}")
        seconds = story.until(lambda: not story.pods("zz"), "no pod is left", IDLE_SECONDS + 60, "zz")
        print(f"its pod was gone {seconds:.1f} s after the last answer")
        assert seconds >= IDLE_SECONDS - 3, "it stays while it is not idle for long enough"
        assert story.status("zz")["lastScale"]["reason"] == "Idle"
        assert story.condition("zz", "Ready")["reason"] == "AtZero"

    told = [reason for reason, _ in story.events("zz")]
    assert "Woken" in told
    assert "Idle" in told
