"""A replica of two pods on two nodes: it comes up as one, answers, and is replaced as one when either pod goes."""

from pathlib import Path
from typing import Any

import pytest

from localkube import layout
from storykit import installation, nodes
from storykit.installation import Installation
from storykit.ledger import asking
from storykit.models import Models, a_ray_model
from storykit.nodes import SECOND, Nodes

pytestmark = [pytest.mark.cluster, pytest.mark.nightly, pytest.mark.alone]

TOKENS = 40
READY_SECONDS = 300.0
APART = {
    "podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {
                "labelSelector": {"matchLabels": {"shoal.dev/model": "gang"}},
                "topologyKey": "kubernetes.io/hostname",
            }
        ]
    }
}


def test_two_pods_on_two_nodes_are_one_replica(
    shoal: Installation, ray_image: str, story: Models, two_nodes: Nodes, tmp_path: Path
) -> None:
    installation.load_images(layout.from_environment(), ["simulator-ray"], nodes=(SECOND,))
    scheduling = {"affinity": APART}
    knobs = ("--simulate-gap-seconds", "0.1")
    story.apply(a_ray_model(ray_image, "gang", *knobs, parallelism={"tensor": 2}, scheduling=scheduling))
    ready = story.wait_ready("gang", seconds=READY_SECONDS)
    print(f"ready {ready:.0f} s after `kubectl apply`")
    _is_one(story, two_nodes)
    for rank in ("1", "0"):
        before = story.pods("gang")
        words = ("--rate", "1", "--tokens", str(TOKENS), "--patience", "300", "--stream")
        with asking(shoal.cluster, tmp_path, shoal.url, "gang", *words, key=shoal.key) as streams:
            story.until(lambda streams=streams: streams.count("ok"), "it answers", 60)
            (member,) = [pod for pod in before if pod["metadata"]["labels"]["shoal.dev/rank"] == rank]
            story.cluster.kubectl("delete", "pod", member["metadata"]["name"], "-n", story.namespace, "--wait=false")
            old = {pod["metadata"]["uid"] for pod in before}
            gone = story.until(
                lambda old=old: old.isdisjoint(pod["metadata"]["uid"] for pod in story.pods("gang")),
                "both old pods are gone",
                120,
                "gang",
            )
            again = story.wait_ready("gang", seconds=READY_SECONDS)
            entries = streams.all_ok()
        assert {entry.tokens for entry in entries} == {TOKENS}
        print(f"rank {rank} deleted: both gone after {gone:.0f} s, ready again {again:.0f} s later, {len(entries)} ok")
        _is_one(story, two_nodes)


def _is_one(story: Models, two_nodes: Nodes) -> None:
    pods: list[Any] = story.pods("gang")
    assert nodes.of_pods(pods) == [two_nodes.first, two_nodes.second]
    assert len({pod["metadata"]["labels"]["shoal.dev/replica"] for pod in pods}) == 1
    assert set(story.starts("gang").values()) == {0}, "it came up at the first try"
