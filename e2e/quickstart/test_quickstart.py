"""The first quarter of an hour: apply two models, ask them from a pod by DNS and from outside, delete them."""

import json
from pathlib import Path
from typing import Any

import pytest

from storykit.installation import NAMESPACE, RELEASE, Installation
from storykit.ledger import asking
from storykit.models import Models, a_model

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("gpus")]

CLIENT = Path(__file__).with_name("client.py")
ADDRESS = f"http://{RELEASE}-gateway.{NAMESPACE}.svc/v1"


def test_two_models_are_served_under_one_address_and_leave_nothing(
    shoal: Installation, story: Models, tmp_path: Path
) -> None:
    gpus = _gpus_of_the_largest_node(shoal)
    chat = {"parallelism": {"tensor": gpus}, "resources": {"gpu": gpus}} if gpus else {}
    story.apply(a_model("qs-chat", **chat))
    story.apply(a_model("qs-embed", "--simulate-embeds", "true"))
    ready_after = story.wait_ready("qs-chat")
    story.wait_ready("qs-embed")
    print(f"ready {ready_after:.1f} s after `kubectl apply`")

    said = _in_a_pod(shoal, story, "qs-chat", "qs-embed")
    assert said["chat"][0] == 200, said["chat"]
    assert said["chat"][1]["choices"][0]["message"]["content"]
    assert said["embedding"][0] == 200, said["embedding"]
    assert len(said["embedding"][1]["data"][0]["embedding"]) > 1
    assert said["models"][0] == 200
    assert {"qs-chat", "qs-embed"} <= {model["id"] for model in said["models"][1]["data"]}
    for without_a_key in (said["without"], said["wrong"]):
        assert without_a_key[0] == 401
        assert "key" in without_a_key[1]["error"]["message"]

    with asking(
        shoal.cluster, tmp_path, shoal.url, "qs-chat", "--rate", "5", "--seconds", "1", "--stream", key=shoal.key
    ) as ledger:
        ledger.client.wait(60)
        assert {entry.outcome for entry in ledger.finish()} == {"ok"}, ledger.told()

    assert story.belongings("qs-chat"), "there is something to leave"
    for name in ("qs-chat", "qs-embed"):
        story.delete(name)
        story.until(lambda name=name: not story.belongings(name), f"nothing of {name} is left", 60)

    if gpus:
        story.apply(a_model("qs-next", **chat))
        story.wait_ready("qs-next")
        story.delete("qs-next")


def _gpus_of_the_largest_node(shoal: Installation) -> int:
    """All GPUs that one pod can have, at most as many as a manifest may ask for; nobody else gets one beside it."""
    nodes = shoal.cluster.get("nodes")["items"]
    return min(max(int(node["status"]["allocatable"].get("nvidia.com/gpu", 0)) for node in nodes), 16)


def _in_a_pod(shoal: Installation, story: Models, chat: str, embed: str) -> Any:
    """What the client in a pod of the story's namespace saw."""
    (gateway, *_) = shoal.pods("gateway")
    arguments = [ADDRESS, shoal.key, chat, embed]
    container = {
        "name": "client",
        "image": gateway["spec"]["containers"][0]["image"],
        "command": ["python", "-c", CLIENT.read_text(), *arguments],
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}},
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "client"},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
    story.apply(pod)
    where = ["-n", story.namespace]
    story.until(
        lambda: story.cluster.get("pod", "client", *where)["status"]["phase"] in ("Succeeded", "Failed"),
        "the client in a pod has ended",
        120,
    )
    log = story.cluster.kubectl("logs", "client", *where)
    assert story.cluster.get("pod", "client", *where)["status"]["phase"] == "Succeeded", log
    return json.loads(log)
