"""Streams that outlast `drainSeconds` end in an honest error; nothing else is lost, and the old pod is gone in time."""

from pathlib import Path

import pytest

from storykit import rollouts
from storykit.installation import Installation
from storykit.ledger import asking
from storykit.models import Models, a_model

pytestmark = [pytest.mark.cluster, pytest.mark.nightly]

DRAIN_SECONDS = 6
SETTLE_SECONDS = 2
END_SECONDS = 30
GAP_SECONDS = 0.1
LONG, SHORT = 400, 20
"""Tokens of streams that take 40 s and 2 s."""
PACE = ("--simulate-gap-seconds", str(GAP_SECONDS), "--simulate-max-running", "500")


def test_what_outlasts_the_drain_is_cut_honestly_and_nothing_else(
    shoal: Installation, story: Models, tmp_path: Path
) -> None:
    how = {"drainSeconds": DRAIN_SECONDS}
    story.apply(a_model("dd", *PACE, rollout=how))
    story.wait_ready("dd")
    (old_pod,) = story.pods("dd")
    old = rollouts.revision(old_pod)

    def load(tokens: int, rate: int) -> list[str]:
        return ["--rate", str(rate), "--tokens", str(tokens), "--stream"]

    with (
        asking(shoal.cluster, tmp_path, shoal.url, "dd", *load(LONG, 1), "--seconds", "8", key=shoal.key) as long,
        asking(shoal.cluster, tmp_path, shoal.url, "dd", *load(SHORT, 5), key=shoal.key) as short,
    ):
        story.until(lambda: short.count("ok") >= 10, "the load runs", 60)
        story.apply(a_model("dd", *PACE, "--simulate-answer-tokens", "20", rollout=how))
        story.until(
            lambda: any(pod["metadata"].get("deletionTimestamp") for pod in story.pods("dd")),
            "the old replica drains",
            60,
            "dd",
        )
        gone = story.until(lambda: rollouts.is_complete(story, "dd", old), "the old pod is gone", 120, "dd")
        long_entries, short_entries = long.finish(), short.finish()
    assert {entry.outcome for entry in short_entries} == {"ok"}, short.told()
    assert {entry.outcome for entry in long_entries} <= {"ok", "cut"}, long.told()
    cut = [entry for entry in long_entries if entry.outcome == "cut"]
    assert cut, "a stream of 40 s outlasts the drain"
    assert all("upstream_lost" in entry.because for entry in cut), long.told()
    assert gone <= DRAIN_SECONDS + SETTLE_SECONDS + END_SECONDS
    print(
        f"the old pod was gone {gone:.1f} s after it was told to go; {len(cut)} of {len(long_entries)} streams of 40 s "
        f"ended in upstream_lost, {len(short_entries)} short ones ok"
    )
