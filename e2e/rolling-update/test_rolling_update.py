"""A new revision takes over two replicas under load: no request fails, no stream is cut."""

from pathlib import Path

import pytest

from storykit.installation import Installation
from storykit.load import Pace, steady
from storykit.models import Models, a_model

pytestmark = pytest.mark.cluster

TOKENS = 50
SLOW = ("--simulate-gap-seconds", "0.1")
"""A stream takes five seconds; four begun per second make 20 at a time."""


def test_a_new_revision_fails_no_request(shoal: Installation, story: Models, tmp_path: Path) -> None:
    story.apply(a_model("ru", *SLOW, replicas=2))
    story.wait_ready("ru", replicas=2)
    old = set(story.starts("ru"))
    with steady(shoal, tmp_path, "ru", streams=Pace(4, TOKENS), answers=Pace(20, 2)) as load:
        story.apply(a_model("ru", *SLOW, "--simulate-max-running", "200", replicas=2))
        rolled = story.until(lambda: old.isdisjoint(story.starts("ru")), "the old pods are gone", 240, "ru")
        story.wait_ready("ru", replicas=2)
        load.goes_on(20)
        load.all_ok(TOKENS)
    print(f"both replicas replaced in {rolled:.0f} s")
    assert len(story.pods("ru")) == 2
