"""The first quarter of an hour: apply two models, ask them from a pod by DNS and from outside, delete them."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from storykit import real_engine
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
        ledger.client.wait(180)
        ledger.all_ok()

    assert story.belongings("qs-chat"), "there is something to leave"
    for name in ("qs-chat", "qs-embed"):
        story.delete(name)
        story.until(lambda name=name: not story.belongings(name), f"nothing of {name} is left", 180)

    if gpus:
        story.apply(a_model("qs-next", **chat))
        story.wait_ready("qs-next")
        story.delete("qs-next")


@pytest.mark.alone
@pytest.mark.usefixtures("real_engine_image")
def test_two_real_models_are_served_and_leave_nothing(shoal: Installation, story: Models, tmp_path: Path) -> None:
    """Real vLLM; prints where the time to the first token goes, and the memory of every pod."""
    gpus = _gpus_of_the_largest_node(shoal)
    llama = real_engine.a_real_model(
        "qs-llama", "tiny-llama", "--max-model-len", "2048", "--dtype", "float32", gpus=gpus
    )
    (tmp_path / "weights").mkdir()
    with real_engine.weights(story, tmp_path / "weights", ["tiny-llama", "all-minilm-l6-v2"]):
        applied = time.time()
        story.apply(llama)
        story.until(lambda: all("qs-llama" in listed for listed in _listed(shoal)), "each gateway lists the model", 60)
        words = ["--rate", "1", "--seconds", "1", "--stream", "--tokens", "32", "--patience", "300"]
        with asking(shoal.cluster, tmp_path, shoal.url, "qs-llama", *words, key=shoal.key) as ledger:
            story.wait_ready("qs-llama", seconds=real_engine.START_SECONDS)
            ledger.client.wait(180)
            (held,) = ledger.finish()
            assert held.outcome == "ok", ledger.told()
        found = real_engine.pieces(story, "qs-llama", applied, held.began + held.waited, held.first)
        print(f"\n{found.told()}")

        story.apply(real_engine.a_real_model("qs-minilm", "all-minilm-l6-v2"))
        seconds = story.wait_ready("qs-minilm", seconds=real_engine.START_SECONDS)
        print(f"the embedding model, beside it, is ready {seconds:.1f} s after `kubectl apply`")

        said = _in_a_pod(shoal, story, "qs-llama", "qs-minilm")
        assert said["chat"][0] == 200, said["chat"]
        assert said["chat"][1]["usage"]["completion_tokens"] > 0
        assert said["embedding"][0] == 200, said["embedding"]
        assert len(said["embedding"][1]["data"][0]["embedding"]) == 384
        assert said["without"][0] == said["wrong"][0] == 401

        for pod, megabytes in sorted(real_engine.memory_of_pods(story, [NAMESPACE, story.namespace]).items()):
            print(f"{megabytes:8.0f} MB  {pod}")
        (pod,) = story.pods("qs-llama")
        parts = real_engine.memory_of_parts(story, pod["metadata"]["name"])
        for part, megabytes in sorted(parts.items(), key=lambda entry: -entry[1]):
            print(f"{megabytes:8.0f} MB  of qs-llama: {part}")

        for name in ("qs-llama", "qs-minilm"):
            story.delete(name)
        for name in ("qs-llama", "qs-minilm"):
            story.until(lambda name=name: not story.belongings(name), f"nothing of {name} is left", 180)
    if gpus:
        story.apply(a_model("qs-next", parallelism={"tensor": gpus}, resources={"gpu": gpus}))
        story.wait_ready("qs-next")
        story.delete("qs-next")


def _listed(shoal: Installation) -> list[str]:
    """What each gateway says when it is asked for its models, by its own address: a Service may ask one only."""
    ask = ["curl", "--silent", "--header", f"authorization: Bearer {shoal.key}"]
    urls = [f"http://{pod['status']['podIP']}:8000/v1/models" for pod in shoal.pods("gateway")]
    return [shoal.cluster.run([*ask, url]) for url in urls]


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
