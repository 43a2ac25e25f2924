"""An address that now belongs to somebody else never gets a prompt, whatever a late EndpointSlice says.

The slices here are made by hand: they say what a gateway believes whose watch is late at the worst moment, when the pod
of the model is gone and its address is already another's.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from storykit import replicas
from storykit.installation import Installation
from storykit.ledger import asking
from storykit.models import MODELS, Models, a_model

pytestmark = pytest.mark.cluster

LISTENER = Path(__file__).with_name("listener.py")
LISTENER_ADDRESS = "10.77.1.1"
"""Of the first node: in the cluster's network, and no pod's."""
HELLO = b"GET /shoal/hello HTTP/1.1"


def test_a_replica_of_another_model_gets_no_prompt(shoal: Installation, story: Models, tmp_path: Path) -> None:
    story.apply(a_model("mine"))
    story.apply(a_model("other"))
    story.wait_ready("mine")
    story.wait_ready("other")
    (mine,), (other,) = story.pods("mine"), story.pods("other")
    with (
        _late_slice(story, "mine", other["status"]["podIP"], 30000),
        asking(shoal.cluster, tmp_path, shoal.url, "mine", "--rate", "20", "--seconds", "5", key=shoal.key) as ledger,
    ):
        ledger.client.wait(180)
        ledger.all_ok()
    heard_by_mine = [entry["path"] for entry in replicas.journal(story, "mine", mine)]
    heard_by_other = [entry["path"] for entry in replicas.journal(story, "other", other)]
    assert heard_by_mine.count("/v1/chat/completions") >= 100, "a journal shows what a replica was asked"
    assert "/v1/chat/completions" not in heard_by_other


def test_whoever_listens_there_hears_hellos_and_no_prompt(shoal: Installation, story: Models, tmp_path: Path) -> None:
    if not shoal.cluster.is_local:
        pytest.skip("a listener in the cluster's network needs the cluster of this machine")
    story.apply(a_model("moved", replicas=0, queue={"maxWaitSeconds": 4}))
    story.wait_ready("moved", replicas=0)
    heard = tmp_path / "heard"
    listener = shoal.cluster.start(
        [sys.executable, str(LISTENER), LISTENER_ADDRESS, "30999", str(heard)], tmp_path / "listener.log"
    )
    try:
        story.until(heard.exists, "the listener listens", 20)
        with (
            _late_slice(story, "moved", LISTENER_ADDRESS, 30999),
            asking(shoal.cluster, tmp_path, shoal.url, "moved", "--rate", "5", key=shoal.key) as ledger,
        ):
            story.until(lambda: HELLO in heard.read_bytes(), "a gateway that believes the slice comes", 120)
            entries = ledger.finish()
    finally:
        listener.terminate()
        listener.wait(20)
    assert {(entry.outcome, entry.status) for entry in entries} == {("refused", 503)}, ledger.told()
    lines = heard.read_bytes().split(b"\r\n")
    assert lines.count(HELLO) >= 1, "somebody came"
    assert not [line for line in lines if b"POST" in line or b"request " in line], "and said nothing but hello"


@contextmanager
def _late_slice(story: Models, name: str, address: str, port: int) -> Iterator[None]:
    """A slice that still shows a pod of the model at this address."""
    uid = story.cluster.get(MODELS, name, "-n", story.namespace)["metadata"]["uid"]
    late: dict[str, Any] = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name}-late",
            "namespace": story.namespace,
            "labels": {"app.kubernetes.io/managed-by": "shoal", "shoal.dev/model-uid": uid},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        "endpoints": [
            {
                "addresses": [address],
                "conditions": {"ready": True},
                "targetRef": {"kind": "Pod", "name": f"{name}-0000000000-9", "uid": "a-pod-that-was"},
            }
        ],
    }
    story.cluster.apply(late)
    try:
        yield
    finally:
        story.cluster.kubectl("delete", "endpointslice", f"{name}-late", "-n", story.namespace)
