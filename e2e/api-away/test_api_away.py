"""The API server is away for a minute, under load: requests go on, and what changes afterwards is followed."""

import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from localkube import control_plane, layout
from storykit.installation import Installation
from storykit.ledger import asking
from storykit.models import Models, a_model

pytestmark = pytest.mark.cluster

AWAY_SECONDS = 60.0


@pytest.mark.parametrize("how", ["silent", "gone"])
def test_requests_go_on_while_the_api_server_is_away(
    shoal: Installation, story: Models, tmp_path: Path, how: str
) -> None:
    if not shoal.cluster.is_local:
        pytest.skip("the API server of a cluster that was given is not ours to stop")
    story.apply(a_model("aa", "--simulate-gap-seconds", "0.05", replicas=1))
    story.wait_ready("aa")
    restarts = _restarts(shoal)
    with (
        asking(
            shoal.cluster, tmp_path, shoal.url, "aa", "--rate", "4", "--tokens", "40", "--stream", key=shoal.key
        ) as streams,
        asking(shoal.cluster, tmp_path, shoal.url, "aa", "--rate", "20", "--tokens", "2", key=shoal.key) as answers,
    ):
        story.until(lambda: streams.count("ok") and answers.count("ok"), "the load runs", 60)
        with _away(how):
            began = time.time()
            # The minute is the claim; nothing else could be waited for, since nothing can be asked.
            time.sleep(AWAY_SECONDS)
            ended = time.time()
        story.apply(a_model("aa", "--simulate-gap-seconds", "0.05", replicas=2))
        story.wait_ready("aa", replicas=2)
        for ledger in (streams, answers):
            entries = ledger.finish()
            meanwhile = [entry for entry in entries if began < entry.began < ended]
            assert {entry.outcome for entry in entries} == {"ok"}, ledger.told()
            assert len(meanwhile) > AWAY_SECONDS * 2, "the load went on all the time"
    assert _restarts(shoal) == restarts, "nothing of ours ended over it"


def _away(how: str) -> AbstractContextManager[None]:
    place = layout.from_environment()
    return control_plane.silent(place) if how == "silent" else control_plane.gone(place, print)


def _restarts(shoal: Installation) -> dict[str, int]:
    return {
        pod["metadata"]["name"]: sum(each["restartCount"] for each in pod["status"]["containerStatuses"])
        for pod in shoal.pods("gateway")
    }
