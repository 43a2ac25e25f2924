"""The engine's process is killed inside a real Ray Serve replica: the pod says why and starts anew, nothing is lost."""

import time
from pathlib import Path
from typing import Any

import pytest

from storykit.installation import Installation
from storykit.ledger import asking
from storykit.load import Pace, steady
from storykit.models import Models, a_ray_model

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("gpus")]

TOKENS = 60
SLOW = ("--simulate-gap-seconds", "0.1")
READY_SECONDS = 240.0
KILL = """
import os, pathlib, signal
for each in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    try:
        is_the_engine = each.read_bytes().startswith(b"ray::ServeReplica")
    except OSError:  # it ended meanwhile
        continue
    if is_the_engine:
        os.kill(int(each.parent.name), signal.SIGKILL)
        print("killed", each.parent.name)
"""


def test_another_replica_takes_over(shoal: Installation, ray_image: str, story: Models, tmp_path: Path) -> None:
    story.apply(a_ray_model(ray_image, "ek", *SLOW, replicas=2, routing={"continuation": "Exact"}))
    ready = story.wait_ready("ek", replicas=2, seconds=READY_SECONDS)
    pace = Pace(2, TOKENS)
    with steady(shoal, tmp_path, "ek", streams=pace, answers=pace) as load:
        victim = story.pods("ek")[0]
        again = _kill_the_engine(story, "ek", victim)
        load.goes_on(10)
        load.all_ok(TOKENS)
        assert {entry.tokens for entry in load.answers.entries} == {TOKENS}, "neither shorter nor longer for it"
    print(f"both ready {ready:.0f} s after `kubectl apply`; the killed one again after {again:.0f} s")


@pytest.mark.nightly
def test_the_only_replicas_requests_wait_for_it(
    shoal: Installation, ray_image: str, story: Models, tmp_path: Path
) -> None:
    story.apply(a_ray_model(ray_image, "ek", replicas=1))
    story.wait_ready("ek", seconds=READY_SECONDS)
    with asking(shoal.cluster, tmp_path, shoal.url, "ek", "--rate", "5", "--seconds", "1", key=shoal.key) as before:
        before.client.wait(300)
        before.all_ok()
    (victim,) = story.pods("ek")
    _kill(story, victim)
    with asking(shoal.cluster, tmp_path, shoal.url, "ek", "--rate", "2", "--seconds", "5", key=shoal.key) as held:
        _says_why_and_starts_anew(story, "ek", victim)
        held.client.wait(300)
        entries = held.all_ok()
    print(f"the first request was answered after {max(entry.ended - entry.began for entry in entries):.0f} s")


def _kill_the_engine(story: Models, name: str, victim: Any) -> float:
    """Seconds until it is ready again."""
    killed = time.monotonic()
    _kill(story, victim)
    _says_why_and_starts_anew(story, name, victim)
    story.wait_ready(name, replicas=2, seconds=READY_SECONDS)
    return time.monotonic() - killed


def _kill(story: Models, victim: Any) -> None:
    where = ["-n", story.namespace, victim["metadata"]["name"]]
    assert story.cluster.kubectl("exec", *where, "--", "python", "-c", KILL).startswith("killed ")


def _says_why_and_starts_anew(story: Models, name: str, victim: Any) -> None:
    uid = victim["metadata"]["uid"]
    story.until(lambda: story.starts(name)[uid] == 1, "its container was started again", 120, name)
    (pod,) = [pod for pod in story.pods(name) if pod["metadata"]["uid"] == uid]
    (engine,) = pod["status"]["containerStatuses"]
    ended = engine["lastState"]["terminated"]
    assert ended["exitCode"] == 1
    assert ended["message"].startswith("the Serve actor died while it served"), ended
