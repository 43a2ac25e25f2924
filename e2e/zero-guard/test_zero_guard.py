"""A model whose idle time is over as soon as nobody asks is kept up by one long stream, and goes when that ends."""

from pathlib import Path

import pytest

from storykit import reactions
from storykit.installation import Installation
from storykit.ledger import asking
from storykit.models import Models, a_followed_model

pytestmark = pytest.mark.cluster

IDLE_SECONDS = 5


def test_a_long_stream_keeps_the_last_replica(shoal: Installation, story: Models, tmp_path: Path) -> None:
    scaling = {"minReplicas": 0, "maxReplicas": 1, "idleSeconds": IDLE_SECONDS}
    story.apply(a_followed_model("zg", "--simulate-gap-seconds", "0.5", **scaling))
    story.wait_reason("zg", "ScalingActive", "FollowsLoad")
    words = ("--stream", "--tokens", "50", "--rate", "1", "--seconds", "1")
    with (
        reactions.watching(story, "zg") as pods,
        asking(shoal.cluster, tmp_path, shoal.url, "zg", *words, key=shoal.key) as ledger,
    ):
        (entry,) = ledger.whole()
        story.until(lambda: not story.pods("zg"), "no pod is left", IDLE_SECONDS + 180, "zg")
    assert (entry.outcome, entry.tokens) == ("ok", 50), ledger.told()
    assert entry.ended - entry.first > 4 * IDLE_SECONDS, "the stream is much longer than the idle time"
    decided = reactions.decisions(shoal, story, "zg")
    print(reactions.reaction([entry], decided, pods, 0.0))
    (gone,) = [each for each in decided if each.reason == "Idle"]
    print(f"to zero {gone.at - entry.ended:+.1f} s after its last token, idleSeconds {IDLE_SECONDS}, 0 lost")
    # Its client may have learnt of the end a little later than the gateway.
    assert gone.at >= entry.ended + IDLE_SECONDS - 2
    assert len(pods.made) == 1
