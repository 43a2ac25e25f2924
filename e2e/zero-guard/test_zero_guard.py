"""A model whose idle time is over as soon as nobody asks is kept up by one long stream, and goes when that ends."""

from pathlib import Path

import pytest

from storykit import reactions
from storykit.installation import Installation
from storykit.ledger import asking
from storykit.models import Models, a_followed_model

pytestmark = pytest.mark.cluster

IDLE_SECONDS = 5
TOKENS = 50
GAP_SECONDS = 0.5
LASTS_SECONDS = (TOKENS - 1) * GAP_SECONDS


def test_a_long_stream_keeps_the_last_replica(shoal: Installation, story: Models, tmp_path: Path) -> None:
    scaling = {"minReplicas": 0, "maxReplicas": 1, "idleSeconds": IDLE_SECONDS}
    story.apply(a_followed_model("zg", "--simulate-gap-seconds", str(GAP_SECONDS), **scaling))
    story.wait_reason("zg", "ScalingActive", "FollowsLoad")
    words = ("--stream", "--tokens", str(TOKENS), "--rate", "1", "--seconds", "1")
    with (
        reactions.watching(story, "zg") as pods,
        asking(shoal.cluster, tmp_path, shoal.url, "zg", *words, key=shoal.key) as ledger,
    ):
        (entry,) = ledger.whole()
        story.until(lambda: not story.pods("zg"), "no pod is left", IDLE_SECONDS + 180, "zg")
    assert (entry.outcome, entry.tokens) == ("ok", TOKENS), ledger.told()
    assert LASTS_SECONDS > 4 * IDLE_SECONDS, "the stream is much longer than the idle time"
    (gone,) = reactions.wait_decided(shoal, story, "zg", "Idle")
    print(reactions.reaction([entry], reactions.decisions(shoal, story, "zg"), pods, 0.0))
    print(f"to zero {gone.at - entry.ended:+.1f} s after its last token, idleSeconds {IDLE_SECONDS}, 0 lost")
    # When its client learns of the end depends on the client; it cannot have been before the engine was through.
    through = entry.began + entry.waited + LASTS_SECONDS
    assert gone.at >= through + IDLE_SECONDS, "a stream that runs is no idle time"
    assert len(pods.made) == 1
