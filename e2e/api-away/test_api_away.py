"""The API server is away for a minute, under load: requests go on, and what changes afterwards is followed.

Kubernetes itself does more when it is back: it finds every node silent for longer than its grace period (50 s), calls
them and their pods not ready until they report again, and takes them out of Services meanwhile. So one client asks by
the Service, and its requests are counted until the return; another asks a gateway by its own address, to the end.
"""

import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from localkube import control_plane, layout
from storykit.installation import Installation
from storykit.ledger import asking
from storykit.models import Models, a_model

pytestmark = [pytest.mark.cluster, pytest.mark.alone]

AWAY_SECONDS = 60.0
FOLLOWED_SECONDS = 240.0
"""Scheduler and controllers, too, have to find the API server again; they pause for up to half a minute each time."""


@pytest.mark.parametrize("how", ["silent", pytest.param("gone", marks=pytest.mark.nightly)])
def test_requests_go_on_while_the_api_server_is_away(
    shoal: Installation, story: Models, tmp_path: Path, how: str
) -> None:
    if not shoal.cluster.is_local:
        pytest.skip("the API server of a cluster that was given is not ours to stop")
    story.apply(a_model("aa", "--simulate-gap-seconds", "0.05", replicas=1))
    story.wait_ready("aa")
    restarts = _restarts(shoal)
    itself = f"http://{shoal.pods('gateway')[0]['status']['podIP']}:8000/v1"
    streams_flags = ("--rate", "4", "--tokens", "40", "--stream")
    with (
        asking(shoal.cluster, tmp_path, shoal.url, "aa", "--rate", "10", "--tokens", "2", key=shoal.key) as by_service,
        asking(shoal.cluster, tmp_path, itself, "aa", *streams_flags, key=shoal.key) as streams,
        asking(shoal.cluster, tmp_path, itself, "aa", "--rate", "10", "--tokens", "2", key=shoal.key) as answers,
    ):
        ledgers = (by_service, streams, answers)
        story.until(lambda: all(ledger.count("ok") for ledger in ledgers), "the load runs", 180)
        began = time.time()
        with _away(how):
            # The minute is the claim; nothing else could be waited for, since nothing can be asked.
            time.sleep(AWAY_SECONDS)
            returned = time.time()
        story.apply(a_model("aa", "--simulate-gap-seconds", "0.05", replicas=2))
        story.wait_ready("aa", replicas=2, seconds=FOLLOWED_SECONDS)
        for ledger in ledgers:
            ledger.finish()
    for ledger in ledgers:
        meanwhile = [entry for entry in ledger.entries if began < entry.began < returned - 3]
        assert len(meanwhile) > AWAY_SECONDS * 2, "the load went on all the time"
        assert {entry.outcome for entry in meanwhile} == {"ok"}, ledger.told()
    for ledger in (streams, answers):
        assert {entry.outcome for entry in ledger.entries} == {"ok"}, ledger.told()
    assert _restarts(shoal) == restarts, "no gateway ended over it"


def _away(how: str) -> AbstractContextManager[None]:
    place = layout.from_environment()
    return control_plane.silent(place) if how == "silent" else control_plane.gone(place, print)


def _restarts(shoal: Installation) -> dict[str, int]:
    return {
        pod["metadata"]["name"]: sum(each["restartCount"] for each in pod["status"]["containerStatuses"])
        for pod in shoal.pods("gateway")
    }
