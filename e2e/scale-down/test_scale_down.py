"""Fewer replicas: only after a calm delay, the ones that are missed least, and no stream is cut for it."""

from pathlib import Path

import pytest

from storykit import reactions, replicas
from storykit.installation import Installation
from storykit.ledger import asking
from storykit.models import Models, a_model

pytestmark = [pytest.mark.cluster, pytest.mark.nightly]

DELAY_SECONDS = 30
TARGET = 12
SLOW = ("--simulate-gap-seconds", "0.5")
_EACH_SEES_THE_OTHERS = ("--rate", "0.4")
"""So slowly that every gateway knows of the stream before, whichever had it."""


def _streams(story: Models, name: str) -> dict[str, int]:
    """How many streams were sent to each pod that stays."""
    pods = [pod for pod in story.pods(name) if not pod["metadata"].get("deletionTimestamp")]
    return {
        pod["metadata"]["name"]: sum("completions" in entry["path"] for entry in replicas.journal(story, name, pod))
        for pod in pods
    }


def _names(story: Models, name: str) -> set[str]:
    """Its pods that stay."""
    return {pod["metadata"]["name"] for pod in story.pods(name) if not pod["metadata"].get("deletionTimestamp")}


def test_the_unready_goes_first_then_the_least_loaded_then_the_youngest(
    shoal: Installation, story: Models, tmp_path: Path
) -> None:
    story.apply(a_model("sd", *SLOW, "--simulate-engine-seconds", "12", replicas=2))
    story.wait_ready("sd", 2)
    ready = _names(story, "sd")
    story.scale("sd", 3)
    story.until(lambda: len(_names(story, "sd")) == 3, "a third pod", 30, "sd")
    story.scale("sd", 2)
    story.until(lambda: len(_names(story, "sd")) == 2, "one goes", 30, "sd")
    assert _names(story, "sd") == ready, "the unready one goes first, the youngest at that"
    story.until(lambda: len(story.pods("sd")) == 2, "it is gone at once, for it has nothing to drain", 30, "sd")

    words = ("--stream", "--tokens", "40", *_EACH_SEES_THE_OTHERS, "--seconds", "7.6")
    with asking(shoal.cluster, tmp_path, shoal.url, "sd", *words, key=shoal.key) as ledger:
        story.until(lambda: sum(_streams(story, "sd").values()) == 3, "three streams run", 30)
        streams = _streams(story, "sd")
        assert sorted(streams.values()) == [1, 2]
        story.scale("sd", 1)
        story.until(lambda: len(_names(story, "sd")) == 1, "one goes", 30, "sd")
        assert _names(story, "sd") == {max(streams, key=lambda pod: streams[pod])}, "the least loaded goes"
        assert {entry.outcome for entry in ledger.whole()} == {"ok"}, ledger.told()

    story.wait_ready("sd", 1)
    oldest = _names(story, "sd")
    story.scale("sd", 2)
    story.wait_ready("sd", 2)
    story.scale("sd", 1)
    story.until(lambda: len(_names(story, "sd")) == 1, "one goes", 30, "sd")
    assert _names(story, "sd") == oldest, "of two that have nothing to do the youngest goes"


def test_a_spike_of_five_seconds_begins_the_delay_anew_and_streams_go_on(
    shoal: Installation, story: Models, tmp_path: Path
) -> None:
    scaling = {"minReplicas": 1, "maxReplicas": 4, "targetLoad": TARGET, "scaleDownDelaySeconds": DELAY_SECONDS}
    story.apply(a_model("spike", *SLOW, replicas=4, scaling=scaling))
    story.wait_ready("spike", 4)
    long = ("--stream", "--tokens", "240", *_EACH_SEES_THE_OTHERS, "--seconds", "12.6")
    spike = ("--stream", "--tokens", "10", "--rate", "360", "--seconds", "0.1")
    with (
        reactions.watching(story, "spike") as pods,
        asking(shoal.cluster, tmp_path, shoal.url, "spike", *long, key=shoal.key) as streams,
    ):
        story.until(lambda: sum(_streams(story, "spike").values()) == 5, "five streams run", 30)
        sent = _streams(story, "spike")
        assert sorted(sent.values()) == [1, 1, 1, 2]
        story.patch("spike", {"replicas": None})
        story.wait_reason("spike", "ScalingActive", "HeldByDelay")
        with asking(shoal.cluster, tmp_path, shoal.url, "spike", *spike, key=shoal.key) as crowd:
            burst = crowd.whole()
        story.wait_wanted("spike", 1, 150)
        entries = [*streams.whole(), *burst]
    assert reactions.lost(entries) == 0, streams.told()
    assert {entry.tokens for entry in streams.entries} == {240}
    fell = [each for each in reactions.decisions(shoal, story, "spike") if each.reason == "LoadFell"]
    # The last of them may come in late; one replica is enough as soon as the load is down at the target.
    spike_over = sorted(entry.ended for entry in burst)[-(TARGET - sum(sent.values())) - 1]
    print([each.because for each in fell])
    print(f"one wanted {fell[-1].at - spike_over:+.1f} s after a spike of {len(burst)}, delay {DELAY_SECONDS} s")
    print(
        f"the last pod told to go {max(pods.leaving.values()) - fell[-1].at:+.2f} s after it, 0 of {len(entries)} lost"
    )
    # What the spike did not need may go before: how many that is, follows from how fast its requests came.
    assert "→ 1 replicas" in fell[-1].because
    assert fell[-1].at >= spike_over + DELAY_SECONDS - 1
    story.wait_ready("spike", 1)
    assert _names(story, "spike") == {max(sent, key=lambda pod: sent[pod])}, "the most loaded is the one that stays"
