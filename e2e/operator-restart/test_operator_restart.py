"""The operator is killed and another takes over: a busy model keeps every replica, an idle one still goes to zero."""

import time
from pathlib import Path

import pytest

from storykit import reactions
from storykit.installation import NAMESPACE, Installation
from storykit.ledger import asking
from storykit.models import Models, a_followed_model

pytestmark = [pytest.mark.cluster, pytest.mark.nightly, pytest.mark.alone]

AGAIN_SECONDS = 90.0
"""A new pod starts, and waits until the Lease of the killed one is over."""


def test_under_load_no_replica_goes_for_it(shoal: Installation, story: Models, tmp_path: Path) -> None:
    scaling = {"minReplicas": 1, "maxReplicas": 3, "targetLoad": 4, "scaleDownDelaySeconds": 0}
    story.apply(a_followed_model("busy", "--simulate-gap-seconds", "0.5", **scaling))
    story.wait_ready("busy")
    words = ("--stream", "--tokens", "8", "--rate", "2.75")
    with (
        reactions.watching(story, "busy") as pods,
        asking(shoal.cluster, tmp_path, shoal.url, "busy", *words, key=shoal.key) as ledger,
    ):
        story.wait_wanted("busy", 3)
        story.wait_ready("busy", 3)
        _restart(shoal, story, "busy")
        after = len(ledger.entries)
        story.until(lambda: len(ledger.entries) >= after + 150, "a minute goes by", 120)
        entries = ledger.finish()
        told = reactions.decisions(shoal, story, "busy")
        print(f"{len(entries)} streams, {reactions.lost(entries)} lost; since the restart: {told}")
        assert reactions.lost(entries) == 0, ledger.told()
        assert not pods.leaving
    assert len(pods.made) == 3


def test_while_idle_zero_is_still_reached(shoal: Installation, story: Models, tmp_path: Path) -> None:
    idle_seconds = 40
    story.apply(a_followed_model("idle", minReplicas=0, maxReplicas=1, idleSeconds=idle_seconds))
    story.wait_reason("idle", "ScalingActive", "FollowsLoad")
    words = ("--rate", "5", "--seconds", "1")
    with asking(shoal.cluster, tmp_path, shoal.url, "idle", *words, key=shoal.key) as ledger:
        entries = ledger.whole()
    assert reactions.lost(entries) == 0, ledger.told()
    led = _restart(shoal, story, "idle")
    story.until(lambda: not story.pods("idle"), "no pod is left", AGAIN_SECONDS, "idle")
    (gone,) = [each for each in reactions.decisions(shoal, story, "idle") if each.reason == "Idle"]
    last = max(entry.ended for entry in entries)
    print(f"to zero {gone.at - last:+.1f} s after the last answer, idleSeconds {idle_seconds}")
    assert gone.at - last >= idle_seconds - 1
    assert gone.at - led <= idle_seconds + 5, "at the latest the new operator counts from when it knows of all gateways"


def _restart(shoal: Installation, story: Models, name: str) -> float:
    """Kill the operator; when another one led and knew the load."""
    (pod,) = shoal.pods("operator")
    before = pod["metadata"]["name"]
    shoal.cluster.kubectl("delete", "pod", before, "-n", NAMESPACE, "--grace-period=0", "--force")

    def leads() -> bool:
        lease = shoal.cluster.get("lease", "shoal-operator", "-n", NAMESPACE)["spec"]["holderIdentity"]
        known = story.condition(name, "ScalingActive")
        return bool(lease and lease != before and known.get("status") == "True")

    seconds = story.until(leads, "another operator leads", AGAIN_SECONDS, name)
    print(f"another operator led {seconds:.0f} s after the kill")
    return time.time()
