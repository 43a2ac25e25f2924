"""A replica's pod is killed under load: the other one takes over, streams go on there, a new pod takes its place."""

from pathlib import Path

import pytest

from storykit.installation import Installation
from storykit.load import Pace, steady
from storykit.models import Models, a_model

pytestmark = pytest.mark.cluster

TOKENS = 60
SLOW = ("--simulate-gap-seconds", "0.1")
"""An answer takes six seconds, a killed pod's two at most: the kill meets streams in their middle."""


def test_nobody_notices_that_a_pod_was_killed(shoal: Installation, story: Models, tmp_path: Path) -> None:
    story.apply(a_model("pk", *SLOW, replicas=2, routing={"continuation": "Exact"}))
    story.wait_ready("pk", replicas=2)
    pace = Pace(4, TOKENS)
    with steady(shoal, tmp_path, "pk", streams=pace, answers=pace) as load:
        victim = story.pods("pk")[0]["metadata"]
        shoal.cluster.kubectl("delete", "pod", victim["name"], "-n", story.namespace, "--grace-period=0", "--force")
        story.until(
            lambda: victim["uid"] not in {pod["metadata"]["uid"] for pod in story.pods("pk")}, "the pod is gone", 60
        )
        story.wait_ready("pk", replicas=2)
        load.goes_on(20)
        load.all_ok(TOKENS)
        assert {entry.tokens for entry in load.answers.entries} == {TOKENS}, "neither shorter nor longer for it"
