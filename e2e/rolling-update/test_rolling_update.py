"""A new revision takes over two replicas under load: no request fails, no stream is cut."""

from pathlib import Path

import pytest

from storykit.installation import Installation
from storykit.ledger import asking
from storykit.models import Models, a_model

pytestmark = pytest.mark.cluster

TOKENS = 50
SLOW = ("--simulate-gap-seconds", "0.1")
"""A stream takes five seconds; four begun per second make 20 at a time."""


def test_a_new_revision_fails_no_request(shoal: Installation, story: Models, tmp_path: Path) -> None:
    story.apply(a_model("ru", *SLOW, replicas=2))
    story.wait_ready("ru", replicas=2)
    old = set(story.starts("ru"))
    with (
        asking(
            shoal.cluster, tmp_path, shoal.url, "ru", "--rate", "4", "--tokens", str(TOKENS), "--stream", key=shoal.key
        ) as streams,
        asking(shoal.cluster, tmp_path, shoal.url, "ru", "--rate", "20", "--tokens", "2", key=shoal.key) as answers,
    ):
        story.until(lambda: streams.count("ok") and answers.count("ok"), "the load runs", 60)
        story.apply(a_model("ru", *SLOW, "--simulate-max-running", "200", replicas=2))
        rolled = story.until(lambda: old.isdisjoint(story.starts("ru")), "the old pods are gone", 240, "ru")
        story.wait_ready("ru", replicas=2)
        after = len(streams.entries)
        story.until(lambda: len(streams.entries) >= after + 20, "the load went on", 60)
        for ledger in (streams, answers):
            entries = ledger.finish()
            assert {entry.outcome for entry in entries} == {"ok"}, ledger.told()
            print(f"{len(entries)} ok")
        assert {entry.tokens for entry in streams.entries} == {TOKENS}
    print(f"both replicas replaced in {rolled:.0f} s")
    assert len(story.pods("ru")) == 2
