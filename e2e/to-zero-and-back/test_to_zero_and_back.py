"""A model that nobody asks for goes to zero by itself, and requests that come then wait for it: none is lost."""

from pathlib import Path

import pytest

from storykit import reactions, real_engine
from storykit.installation import Installation
from storykit.ledger import asking
from storykit.ledger_client import Entry
from storykit.models import Models, a_model

pytestmark = pytest.mark.cluster

IDLE_SECONDS = 10
ROUNDS = 2
SELF_TESTS = 1


def _tell(shoal: Installation, story: Models, name: str, entries: list[Entry], pods: reactions.PodTimes) -> None:
    """Print the way of the request that woke it, every step of it."""
    woken = reactions.wait_decided(shoal, story, name, "Woken")
    seen = reactions.reaction(entries, woken, pods, 0.0)
    print(f"{seen}; {reactions.lost(entries)} of {len(entries)} lost")
    assert None not in (seen.decided, seen.made, seen.ready, seen.first_token), f"a step was not seen: {seen}"


def test_an_idle_model_goes_and_the_next_request_wakes_it(shoal: Installation, story: Models, tmp_path: Path) -> None:
    scaling = {"minReplicas": 0, "maxReplicas": 1, "idleSeconds": IDLE_SECONDS}
    manifest = a_model("zz", scaling=scaling)
    del manifest["spec"]["replicas"]
    story.apply(manifest)
    story.wait_reason("zz", "ScalingActive", "FollowsLoad")
    assert not story.pods("zz"), "nobody asked yet"

    for number in range(ROUNDS):
        words = ("--stream", "--rate", "5", "--seconds", "6")
        with (
            reactions.watching(story, "zz") as pods,
            asking(shoal.cluster, tmp_path, shoal.url, "zz", *words, key=shoal.key) as ledger,
        ):
            ledger.client.wait(300)
            entries = ledger.all_ok()
            story.until(lambda pods=pods: pods.ready, "the watch has told of its pod, too", 60, "zz")
        assert len(entries) == 30
        _tell(shoal, story, "zz", entries, pods)
        seconds = story.until(lambda: not story.pods("zz"), "no pod is left", IDLE_SECONDS + 180, "zz")
        print(f"its pod was gone {seconds:.1f} s after the last answer")
        gone = reactions.wait_decided(shoal, story, "zz", "Idle", number + 1)[-1]
        last = max(entry.began for entry in entries)
        assert gone.at - last >= IDLE_SECONDS - 0.1, "it stays while it is not idle for long enough"
        story.wait_reason("zz", "Ready", "AtZero")
        assert story.status("zz")["lastScale"]["reason"] == "Idle"

    def told() -> set[str]:
        return {reason for reason, _ in story.events("zz")}

    story.until(lambda: {"Woken", "Idle"} <= told(), "Events tell of both", 120, "zz")


@pytest.mark.nightly
@pytest.mark.alone
@pytest.mark.usefixtures("real_engine_image")
def test_200_requests_reach_a_real_engine_once_each(shoal: Installation, story: Models, tmp_path: Path) -> None:
    """Half of them wait while vLLM starts, twice; its own counters say how often each was run."""
    scaling = {"minReplicas": 0, "maxReplicas": 1, "idleSeconds": IDLE_SECONDS}
    manifest = real_engine.a_real_model("zr", "tiny-llama", "--max-model-len", "2048", scaling=scaling)
    del manifest["spec"]["replicas"]
    (tmp_path / "weights").mkdir()
    with real_engine.weights(story, tmp_path / "weights", ["tiny-llama"]):
        story.apply(manifest)
        story.wait_reason("zr", "ScalingActive", "FollowsLoad")
        for _ in range(ROUNDS):
            words = ("--stream", "--rate", "5", "--seconds", "20", "--patience", "300")
            with (
                reactions.watching(story, "zr") as pods,
                asking(shoal.cluster, tmp_path, shoal.url, "zr", *words, key=shoal.key) as ledger,
            ):
                ledger.client.wait(real_engine.START_SECONDS)
                entries = ledger.all_ok()
            assert len(entries) == 200 / ROUNDS
            finished = real_engine.finished_requests(story, "zr")
            assert finished == len(entries) + SELF_TESTS, "each was run once"
            _tell(shoal, story, "zr", entries, pods)
            seconds = story.until(lambda: not story.pods("zr"), "no pod is left", IDLE_SECONDS + 180, "zr")
            print(f"its pod was gone {seconds:.1f} s after the last answer")
        story.delete("zr")
