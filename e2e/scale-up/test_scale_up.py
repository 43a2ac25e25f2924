"""Load rises tenfold: as many replicas as it needs are wanted at once, and none more while they start."""

from pathlib import Path

import pytest

from storykit import reactions, replicas
from storykit.installation import Installation
from storykit.ledger import asking
from storykit.models import Models, a_followed_model

pytestmark = [pytest.mark.cluster, pytest.mark.alone]

SLOW = ("--simulate-gap-seconds", "0.5")
STREAMS = ("--stream", "--tokens", "70")
"""Each runs for 35 s."""
ALLOWED_SECONDS = 15.0
"""Three are meant, and told by what is printed; a machine may be slow and do other things, too."""


def test_from_four_to_forty_ten_are_wanted_within_seconds_and_never_more(
    shoal: Installation, story: Models, tmp_path: Path
) -> None:
    # Ten pods may take longer to start than the streams run: nothing goes before all were seen.
    scaling = {"minReplicas": 1, "maxReplicas": 20, "targetLoad": 4, "scaleDownDelaySeconds": 600}
    story.apply(a_followed_model("su", *SLOW, **scaling))
    story.wait_ready("su")
    (first,) = story.pods("su")

    def asked() -> int:
        return sum("completions" in entry["path"] for entry in replicas.journal(story, "su", first))

    few = asking(shoal.cluster, tmp_path, shoal.url, "su", *STREAMS, "--rate", "40", "--seconds", "0.1", key=shoal.key)
    many = ("--rate", "360", "--seconds", "0.1")
    with reactions.watching(story, "su") as pods, few as four:
        story.until(lambda: asked() == 4, "four streams run", 30)
        assert story.status("su")["desiredReplicas"] == 1
        with asking(shoal.cluster, tmp_path, shoal.url, "su", *STREAMS, *many, key=shoal.key) as more:
            story.wait_wanted("su", 10, 30)
            story.wait_ready("su", 10)
            entries = [*more.whole(), *four.whole()]

    assert len(entries) == 40
    assert reactions.lost(entries) == 0, more.told()
    last = max(entry.began for entry in entries)
    decided = [each for each in reactions.decisions(shoal, story, "su") if each.reason == "LoadRose"]
    print(reactions.reaction(entries, decided, pods, last - 0.5))
    print(f"10 ready {max(pods.ready.values()) - last:+.1f} s, {len(entries)} streams, 0 lost")
    # Two gateways tell of their halves within a second of each other: that may make two steps of it.
    print([rise.because for rise in decided])
    assert "→ 10 replicas: load 40" in decided[-1].because
    assert decided[-1].at - last <= ALLOWED_SECONDS
    assert len(pods.made) == 10
