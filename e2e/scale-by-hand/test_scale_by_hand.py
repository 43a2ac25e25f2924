"""A number given by hand wins over the load and survives; edited bounds and a schedule act at once."""

import pytest

from storykit.installation import NAMESPACE, Installation
from storykit.models import Models, a_followed_model

pytestmark = [pytest.mark.cluster, pytest.mark.nightly, pytest.mark.alone]

AT_ONCE_SECONDS = 5.0


def test_a_number_given_by_hand_wins_and_survives(shoal: Installation, story: Models) -> None:
    manifest = a_followed_model("by-hand", minReplicas=0, maxReplicas=4, idleSeconds=0)
    story.apply(manifest)
    story.wait_reason("by-hand", "ScalingActive", "FollowsLoad")
    story.scale("by-hand", 2)
    story.wait_wanted("by-hand", 2, AT_ONCE_SECONDS)
    story.wait_reason("by-hand", "ScalingActive", "FixedReplicas")
    story.wait_ready("by-hand", 2)
    story.apply(manifest)
    shoal.cluster.kubectl("rollout", "restart", "deployment/shoal-operator", "-n", NAMESPACE)
    shoal.wait_for("deployment/shoal-operator")
    story.patch("by-hand", {"scaling": {"maxReplicas": 3}})
    story.until(lambda: _seen(story, "by-hand"), "the new operator has seen the edit", 60, "by-hand")
    assert story.status("by-hand")["desiredReplicas"] == 2, (
        "whoever applies a manifest without it does not take it away"
    )
    assert len(story.pods("by-hand")) == 2

    story.patch("by-hand", {"replicas": None})
    story.wait_wanted("by-hand", 0, 30)
    assert story.status("by-hand")["lastScale"]["reason"] == "Idle"


def test_edited_bounds_and_a_schedule_act_at_once(story: Models) -> None:
    story.apply(a_followed_model("edited", minReplicas=1, maxReplicas=4))
    story.wait_ready("edited")
    always = {"cron": "* * * * *", "timeZone": "Europe/Berlin", "durationSeconds": 3600}
    for scaling, wanted, reason in (
        ({"minReplicas": 3}, 3, "BoundsChanged"),
        ({"minReplicas": 1, "maxReplicas": 2}, 2, "BoundsChanged"),
        ({"maxReplicas": 4, "schedules": [always | {"minReplicas": 4}]}, 4, "Scheduled"),
    ):
        story.patch("edited", {"scaling": scaling})
        seconds = story.wait_wanted("edited", wanted, AT_ONCE_SECONDS)
        print(f"{scaling}: {wanted} wanted after {seconds:.1f} s")
        assert story.status("edited")["lastScale"]["reason"] == reason
    assert "scaling.schedules[0] wants at least 4 replicas" in story.condition("edited", "ScalingActive")["message"]
    assert [reason for reason, _ in story.events("edited")].count("Scheduled") == 1


def _seen(story: Models, name: str) -> bool:
    generation = story.cluster.get("modeldeployments.shoal.dev", name, "-n", story.namespace)["metadata"]["generation"]
    return bool(story.status(name).get("observedGeneration") == generation)
