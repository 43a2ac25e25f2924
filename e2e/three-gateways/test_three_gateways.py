"""Three gateways are one: loads are summed, the least loaded is so over all, a silent one freezes the way down."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from storykit import freezing, reactions, replicas
from storykit.installation import NAMESPACE, Installation
from storykit.ledger import Ledger, asking
from storykit.models import Models, a_followed_model

pytestmark = [pytest.mark.cluster, pytest.mark.nightly, pytest.mark.alone]

GATEWAY = "deployment/shoal-gateway"
PORT = 8000
SLOW = ("--simulate-gap-seconds", "0.5")
IDLE_SECONDS = 8


@pytest.fixture
def gateways(shoal: Installation) -> Iterator[list[Any]]:
    """The pods of three gateways, then as many as before."""
    before = len(shoal.pods("gateway"))
    _run(shoal, 3)
    yield shoal.pods("gateway")
    _run(shoal, before)


def _run(shoal: Installation, count: int) -> None:
    shoal.cluster.kubectl("scale", GATEWAY, "-n", NAMESPACE, f"--replicas={count}")
    shoal.wait_for(GATEWAY)


def _ask(shoal: Installation, folder: Path, gateway: Any, model: str, count: int, rate: float, tokens: int) -> Any:
    """So many streams through this very gateway."""
    url = f"http://{gateway['status']['podIP']}:{PORT}/v1"
    words = ("--stream", "--tokens", str(tokens), "--rate", str(rate), "--seconds", str((count + 0.01) / rate))
    return asking(shoal.cluster, folder, url, model, *words, key=shoal.key)


def _finished(ledgers: list[Ledger]) -> int:
    """How many streams there were; all of them ended well."""
    entries = [entry for ledger in ledgers for entry in ledger.whole()]
    assert reactions.lost(entries) == 0, [ledger.told() for ledger in ledgers]
    return len(entries)


def test_the_load_is_that_of_all_and_so_is_the_least_loaded(
    shoal: Installation, story: Models, gateways: list[Any], tmp_path: Path
) -> None:
    story.apply(a_followed_model("tg", *SLOW, minReplicas=1, maxReplicas=6, targetLoad=1))
    story.wait_ready("tg")
    with ExitStack() as stack:
        loads = zip(gateways, (1, 2, 3), strict=True)
        ledgers = [stack.enter_context(_ask(shoal, tmp_path, each, "tg", count, 10, 50)) for each, count in loads]
        story.wait_wanted("tg", 6, 10)
        assert "load 6 (0 wait, 6 run) at target 1 needs 6 replicas" in story.status("tg")["lastScale"]["because"]
        story.wait_ready("tg", 6)
        assert _finished(ledgers) == 6

    before = _asked(story, "tg")
    with ExitStack() as stack:
        ledgers = [stack.enter_context(_ask(shoal, tmp_path, each, "tg", 8, 0.8, 60)) for each in gateways]
        story.until(lambda: sum(_asked(story, "tg").values()) == 6 + 24, "24 streams run", 40)
        after = _asked(story, "tg")
        assert _finished(ledgers) == 24
    shares = {pod: after[pod] - before[pod] for pod in after}
    print(f"24 streams by three gateways over six replicas: {sorted(shares.values())}, 0 lost")
    assert all(3 <= share <= 5 for share in shares.values()), shares


def test_a_frozen_gateway_freezes_the_way_down_and_is_named(
    shoal: Installation, story: Models, gateways: list[Any], tmp_path: Path
) -> None:
    if not shoal.cluster.is_local:
        pytest.skip("a process is frozen on the cluster of this machine only")
    story.apply(a_followed_model("fr", minReplicas=0, maxReplicas=2, idleSeconds=IDLE_SECONDS))
    story.wait_reason("fr", "ScalingActive", "FollowsLoad")
    with _ask(shoal, tmp_path, gateways[0], "fr", 5, 5, 4) as ledger:
        assert _finished([ledger]) == 5
    with freezing.frozen(gateways[2]):
        message = story.wait_reason("fr", "ScalingActive", "GatewaySilent", 10)
        assert story.condition("fr", "ScalingActive")["status"] == "False"
        print(message)
        last = max(entry.ended for entry in ledger.entries)
        seconds = story.until(lambda: time.time() >= last + IDLE_SECONDS + 2, "the idle time is over", 20)
        assert story.status("fr")["desiredReplicas"] == 1, f"nothing goes while a gateway is silent ({seconds:.0f} s)"
    story.wait_wanted("fr", 0, 30)
    (gone,) = [each for each in reactions.decisions(shoal, story, "fr") if each.reason == "Idle"]
    print(f"to zero {gone.at - last:+.1f} s after the last answer, idleSeconds {IDLE_SECONDS}; a gateway was frozen")
    assert gone.at > last + IDLE_SECONDS + 2


def _asked(story: Models, name: str) -> dict[str, int]:
    return {
        pod["metadata"]["name"]: sum("completions" in entry["path"] for entry in replicas.journal(story, name, pod))
        for pod in story.pods(name)
    }
