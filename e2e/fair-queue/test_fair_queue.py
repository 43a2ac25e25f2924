"""One key posts 200 requests at once, another five: these wait for their own share only, and none of all is lost."""

import base64
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from shoal_api import keys
from storykit.installation import NAMESPACE, RELEASE, Installation
from storykit.ledger import asking
from storykit.models import Models, a_model

pytestmark = [pytest.mark.cluster, pytest.mark.nightly, pytest.mark.alone]

SECRET = f"{RELEASE}-api-keys"
LIMIT = 4
TOKENS = 5
SLOW = ("--simulate-gap-seconds", "0.1")
"""An answer takes about half a second; four at a time, and 200 of them nearly half a minute."""


@contextmanager
def keys_of(shoal: Installation, story: Models, *names: str) -> Iterator[list[str]]:
    """Keys beside those that are there, written as the chart's documentation says: into the Secret."""
    made = [f"sk-story-{secrets.token_hex(16)}" for _ in names]
    more = [
        {"name": name, "sha256": keys.digest(key.encode()).hex(), "models": ["*"]}
        for name, key in zip(names, made, strict=True)
    ]
    known = _read(shoal)
    _write(shoal, known + more)
    try:
        # A change of the pod's own makes kubelet look at the Secret now, and not within a minute.
        for pod in shoal.pods("gateway"):
            shoal.cluster.kubectl("annotate", "pod", pod["metadata"]["name"], "-n", NAMESPACE, "story=keys")
        seconds = story.until(lambda: all(_are_known(shoal, key) for key in made), "every gateway knows the keys", 150)
        print(f"the gateways know two more keys after {seconds:.1f} s")
        yield made
    finally:
        _write(shoal, known)
        for pod in shoal.pods("gateway"):
            shoal.cluster.kubectl("annotate", "pod", pod["metadata"]["name"], "-n", NAMESPACE, "story-")


def _read(shoal: Installation) -> list[dict[str, object]]:
    data = shoal.cluster.get("secret", SECRET, "-n", NAMESPACE)["data"]["keys.yaml"]
    found: list[dict[str, object]] = yaml.safe_load(base64.b64decode(data))
    return found


def _write(shoal: Installation, entries: list[dict[str, object]]) -> None:
    patch = json.dumps({"stringData": {"keys.yaml": yaml.safe_dump(entries)}})
    shoal.cluster.kubectl("patch", "secret", SECRET, "-n", NAMESPACE, "--type=merge", "-p", patch)


def _are_known(shoal: Installation, key: str) -> bool:
    """By each gateway, asked at its own address."""
    ask = ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}"]
    ask += ["--header", f"authorization: Bearer {key}"]
    addresses = [f"http://{pod['status']['podIP']}:8000/v1/models" for pod in shoal.pods("gateway")]
    return {shoal.cluster.run([*ask, address]) for address in addresses} == {"200"}


@pytest.mark.parametrize("other", [0, 1], ids=["one-gateway", "another-gateway"])
def test_two_hundred_of_one_key_do_not_make_five_of_another_wait(
    shoal: Installation, story: Models, tmp_path: Path, other: int
) -> None:
    story.apply(a_model("fq", *SLOW, queue={"maxInFlightPerReplica": LIMIT}))
    story.wait_ready("fq")
    gateways = [f"http://{pod['status']['podIP']}:8000/v1" for pod in shoal.pods("gateway")]
    with keys_of(shoal, story, "loud", "quiet") as (loud, quiet):
        words = ["--tokens", str(TOKENS), "--seconds", "1", "--rate"]
        with (
            asking(shoal.cluster, tmp_path, gateways[0], "fq", *words, "200", key=loud) as flood,
            asking(shoal.cluster, tmp_path, gateways[other], "fq", *words, "5", key=quiet) as drops,
        ):
            drops.client.wait(120)
            flood.client.wait(180)
            many, few = flood.finish(), drops.finish()
    assert {entry.outcome for entry in (*many, *few)} == {"ok"}, (flood.told(), drops.told())
    assert (len(many), len(few)) == (200, 5)
    waits = sorted(entry.ended - entry.began for entry in few)
    longest = max(entry.ended - entry.began for entry in many)
    print(f"200 of one key: answered within {longest:.1f} s; 5 of another: {[round(wait, 1) for wait in waits]} s")
    assert longest > 10, "there was something to wait for"
    assert waits[-1] < longest / 3
