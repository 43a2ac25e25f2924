"""Both gateways are restarted, one after the other, under streams and whole answers: no request fails."""

from pathlib import Path

import pytest

from storykit.installation import NAMESPACE, Installation
from storykit.load import Pace, steady
from storykit.models import Models, a_model

pytestmark = [pytest.mark.cluster, pytest.mark.alone]

GATEWAY = "deployment/shoal-gateway"


def test_a_rolling_restart_of_the_gateways_fails_no_request(shoal: Installation, story: Models, tmp_path: Path) -> None:
    story.apply(a_model("gr", "--simulate-gap-seconds", "0.1", replicas=2))
    story.wait_ready("gr", replicas=2)
    before = {pod["metadata"]["uid"] for pod in shoal.pods("gateway")}
    assert len(before) == 2
    with steady(shoal, tmp_path, "gr", streams=Pace(4, 50), answers=Pace(20, 3)) as load:
        shoal.cluster.kubectl("rollout", "restart", GATEWAY, "-n", NAMESPACE)
        shoal.wait_for(GATEWAY)
        story.until(
            lambda: {pod["metadata"]["uid"] for pod in shoal.pods("gateway", leaving=True)}.isdisjoint(before),
            "the old gateways are gone",
            240,
        )
        load.goes_on(20)
        load.all_ok(50)
