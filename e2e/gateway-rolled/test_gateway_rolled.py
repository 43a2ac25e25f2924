"""Both gateways are restarted, one after the other, under streams and whole answers: no request fails."""

from pathlib import Path

import pytest

from storykit.installation import NAMESPACE, Installation
from storykit.ledger import asking
from storykit.models import Models, a_model

pytestmark = [pytest.mark.cluster, pytest.mark.alone]

GATEWAY = "deployment/shoal-gateway"


def test_a_rolling_restart_of_the_gateways_fails_no_request(shoal: Installation, story: Models, tmp_path: Path) -> None:
    story.apply(a_model("gr", "--simulate-gap-seconds", "0.1", replicas=2))
    story.wait_ready("gr", replicas=2)
    before = {pod["metadata"]["uid"] for pod in shoal.pods("gateway")}
    assert len(before) == 2
    with (
        asking(
            shoal.cluster, tmp_path, shoal.url, "gr", "--rate", "4", "--tokens", "50", "--stream", key=shoal.key
        ) as streams,
        asking(shoal.cluster, tmp_path, shoal.url, "gr", "--rate", "20", "--tokens", "3", key=shoal.key) as answers,
    ):
        story.until(lambda: streams.count("ok") and answers.count("ok"), "the load runs", 60)
        shoal.cluster.kubectl("rollout", "restart", GATEWAY, "-n", NAMESPACE)
        shoal.wait_for(GATEWAY)
        story.until(
            lambda: {pod["metadata"]["uid"] for pod in shoal.pods("gateway", leaving=True)}.isdisjoint(before),
            "the old gateways are gone",
            120,
        )
        after = len(streams.entries)
        story.until(lambda: len(streams.entries) >= after + 20, "the load went on", 60)
        for ledger in (streams, answers):
            assert {entry.outcome for entry in ledger.finish()} == {"ok"}, ledger.told()
