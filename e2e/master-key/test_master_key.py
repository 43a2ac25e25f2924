"""The installation gets another master key: running replicas take theirs, and only waiting is noticed."""

import base64
import json
import secrets
import time
from pathlib import Path

import pytest

from storykit.installation import NAMESPACE, Installation
from storykit.ledger import asking
from storykit.models import Models, a_model

pytestmark = [pytest.mark.cluster, pytest.mark.nightly, pytest.mark.alone]

MASTER_KEY = "shoal-master-key"
PROGRAMS = ("deployment/shoal-operator", "deployment/shoal-gateway")


def test_another_master_key_costs_a_wait_and_no_replica(shoal: Installation, story: Models, tmp_path: Path) -> None:
    story.apply(a_model("mk", replicas=2))
    story.wait_ready("mk", replicas=2)
    before = story.starts("mk")
    words = ("--rate", "2", "--tokens", "3", "--patience", "300")
    with asking(shoal.cluster, tmp_path, shoal.url, "mk", *words, key=shoal.key) as ledger:
        story.until(lambda: ledger.count("ok"), "the load runs", 180)
        changed = time.time()
        _change(shoal)
        for program in PROGRAMS:
            shoal.cluster.kubectl("rollout", "restart", program, "-n", NAMESPACE)
        for program in PROGRAMS:
            shoal.wait_for(program)
        restarted = time.time()
        story.until(
            lambda: any(entry.began > restarted and entry.outcome == "ok" for entry in ledger.entries),
            "a request that came after the change is answered",
            240,
        )
        after = len(ledger.entries)
        story.until(lambda: len(ledger.entries) >= after + 20, "the load went on", 240)
        entries = ledger.all_ok()
    assert story.starts("mk") == before, "no replica was started anew"
    longest = max(entry.ended - entry.began for entry in entries if entry.ended > changed)
    print(f"{len(entries)} ok, the longest wait {longest:.0f} s")


def _change(shoal: Installation) -> None:
    value = base64.b64encode(secrets.token_hex(32).encode()).decode()
    change = json.dumps({"data": {"master-key": value}})
    shoal.cluster.kubectl("patch", "secret", MASTER_KEY, "-n", NAMESPACE, "--type=merge", "-p", change)
