"""A replica's pod is killed under load: the other one takes over, streams go on there, a new pod takes its place."""

from pathlib import Path

import pytest

from storykit.installation import Installation
from storykit.ledger import asking
from storykit.models import Models, a_model

pytestmark = pytest.mark.cluster

TOKENS = 60
SLOW = ("--simulate-gap-seconds", "0.1")
"""An answer takes six seconds, a killed pod's two at most: the kill meets streams in their middle."""


def test_nobody_notices_that_a_pod_was_killed(shoal: Installation, story: Models, tmp_path: Path) -> None:
    story.apply(a_model("pk", *SLOW, replicas=2, routing={"continuation": "Exact"}))
    story.wait_ready("pk", replicas=2)
    words = ("--rate", "4", "--tokens", str(TOKENS))
    with (
        asking(shoal.cluster, tmp_path, shoal.url, "pk", *words, "--stream", key=shoal.key) as streams,
        asking(shoal.cluster, tmp_path, shoal.url, "pk", *words, key=shoal.key) as answers,
    ):
        story.until(lambda: streams.count("ok") and answers.count("ok"), "the load runs", 60)
        victim = story.pods("pk")[0]["metadata"]
        shoal.cluster.kubectl("delete", "pod", victim["name"], "-n", story.namespace, "--grace-period=0", "--force")
        story.until(
            lambda: victim["uid"] not in {pod["metadata"]["uid"] for pod in story.pods("pk")}, "the pod is gone", 60
        )
        story.wait_ready("pk", replicas=2)
        after = len(streams.entries)
        story.until(lambda: len(streams.entries) >= after + 20, "the load went on", 60)
        for ledger in (streams, answers):
            entries = ledger.finish()
            assert {entry.outcome for entry in entries} == {"ok"}, ledger.told()
            assert {entry.tokens for entry in entries} == {TOKENS}, "an answer is neither shorter nor longer for it"
