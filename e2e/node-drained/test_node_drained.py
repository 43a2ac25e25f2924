"""`kubectl drain` of a node with a replica and both gateways, under load: no stream is cut, no request fails."""

from pathlib import Path

import pytest

from storykit import nodes
from storykit.installation import NAMESPACE, Installation
from storykit.load import Pace, steady
from storykit.models import Models, a_model
from storykit.nodes import Nodes

pytestmark = [pytest.mark.cluster, pytest.mark.nightly, pytest.mark.alone]

TOKENS = 150
SLOW = ("--simulate-gap-seconds", "0.1")
"""A stream takes fifteen seconds: many are in their middle when their replica and their gateway are told to go."""
DRAIN_SECONDS = 240
GATEWAY = "deployment/shoal-gateway"


def test_a_drained_node_cuts_no_stream(shoal: Installation, story: Models, two_nodes: Nodes, tmp_path: Path) -> None:
    story.apply(a_model("nd", *SLOW, replicas=2, scheduling=nodes.spread("nd")))
    story.wait_ready("nd", replicas=2)
    two_nodes.cordon(two_nodes.first)
    shoal.cluster.kubectl("rollout", "restart", GATEWAY, "-n", NAMESPACE)
    shoal.wait_for(GATEWAY)
    story.until(lambda: len(shoal.pods("gateway", leaving=True)) == 2, "the old gateways are gone", 240)
    two_nodes.uncordon(two_nodes.first)
    assert nodes.of_pods(shoal.pods("gateway")) == [two_nodes.second] * 2
    assert nodes.of_pods(story.pods("nd")) == [two_nodes.first, two_nodes.second]
    log = tmp_path / "drain.log"
    fewest = 2
    with steady(shoal, tmp_path, "nd", streams=Pace(2, TOKENS), answers=Pace(10, 3)) as load:
        drain = two_nodes.drain(two_nodes.second, log, DRAIN_SECONDS)

        def is_drained() -> bool:
            nonlocal fewest
            fewest = min(fewest, sum(_is_ready(pod) for pod in shoal.pods("gateway")))
            return drain.poll() is not None

        seconds = story.until(is_drained, "kubectl drain has ended", DRAIN_SECONDS + 10)
        assert drain.returncode == 0, log.read_text()
        story.wait_ready("nd", replicas=2)
        assert nodes.of_pods(story.pods("nd")) == [two_nodes.first] * 2
        load.goes_on(10)
        load.all_ok(TOKENS)
    assert "disruption budget" in log.read_text(), "the second gateway had to wait for the first one's successor"
    assert fewest >= 1, "at no time was there no gateway"
    print(f"drained in {seconds:.0f} s")


def _is_ready(pod: dict[str, dict[str, list[dict[str, str]]]]) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", []))
