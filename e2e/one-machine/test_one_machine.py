"""The walk through the whole house with real vLLM: `shoal up`, the official client, kills, edits, Ctrl-C.

Needs SHOAL_TEST_MODELS (made by examples/quickstart/make_models.py) and SHOAL_ENGINE_PYTHON; `make e2e` sets both.
"""

import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
import yaml

from facts import until
from held_ports import a_port
from one_machine_up import told

MODELS = Path(os.environ["SHOAL_TEST_MODELS"])
READY_WITHIN = 240.0


def a_manifest(name: str, folder: str, names: list[str], **spec: Any) -> dict[str, Any]:
    model = {"source": f"file://{MODELS / folder}", "names": names}
    whole = {"model": model, "resources": {"gpu": 0}, "replicas": 1} | spec
    return {"apiVersion": "shoal.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": name}, "spec": whole}


class House:
    """One running `shoal up`, its files and what it said."""

    def __init__(self, folder: Path, *manifests: dict[str, Any]) -> None:
        self.port = a_port()
        self.file = folder / "models.yaml"
        self.write(*manifests)
        self.environment = os.environ | {"SHOAL_HOME": str(folder / "home"), "XDG_RUNTIME_DIR": str(folder / "run")}
        self.said: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "shoal_operator", "up", "-f", str(self.file), "--listen", f"127.0.0.1:{self.port}"],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()
        self.client = openai.OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key="any", max_retries=0)

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as said:
            for line in said:
                self.said.append(line.rstrip())

    def close(self) -> None:
        """End it, if it still runs, and let go of its output and its connections."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._listening.join(10)
        self.client.close()

    def write(self, *manifests: dict[str, Any]) -> None:
        self.file.write_text(yaml.safe_dump_all(manifests))

    def status(self) -> dict[str, Any]:
        return told(self.environment)

    def model(self, name: str) -> dict[str, Any]:
        (found,) = [model for model in self.status()["models"] if model["id"] == f"default/{name}"]
        return dict(found)

    def replica(self, name: str) -> dict[str, Any]:
        (found,) = self.model(name)["replicas"]
        return dict(found)

    def is_ready(self, name: str) -> bool:
        return bool(self.model(name)["status"]["readyReplicas"])

    def tree(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def processes_of(self, name: str, pattern: str) -> list[psutil.Process]:
        """Processes below the replica program of a model whose command line matches."""
        program = psutil.Process(self.replica(name)["pid"])
        below = [program, *program.children(recursive=True)]
        return [process for process in below if re.search(pattern, _words(process))]


LLAMA = a_manifest("tiny-llama", "tiny-llama", ["tiny-llama", "chat"], engine={"args": ["--dtype", "float32"]})
MINILM = a_manifest("all-minilm", "all-minilm-l6-v2", ["all-minilm-l6-v2", "embed"])


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    running = House(tmp_path_factory.mktemp("house"), LLAMA, MINILM)
    try:
        until(
            lambda: running.process.poll() is not None or any("all models are ready" in s for s in running.said),
            "ready",
            READY_WITHIN,
        )
        assert running.process.poll() is None, "\n".join(running.said)
        yield running
    finally:
        print("\n".join(running.said))
        running.close()


def test_the_official_client_lists_the_models(house: House) -> None:
    listed = {model.id for model in house.client.models.list()}

    assert {"tiny-llama", "all-minilm-l6-v2"} <= listed
    assert house.client.models.retrieve("chat").object == "model"


def test_the_official_client_chats(house: House) -> None:
    answer = house.client.chat.completions.create(model="chat", messages=[_user("Hello")], max_tokens=12, temperature=0)

    assert answer.model == "tiny-llama"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 12


def test_a_chat_streams_token_by_token(house: House) -> None:
    asked = time.monotonic()
    stream = house.client.chat.completions.create(
        model="tiny-llama", messages=[_user("Hello")], max_tokens=400, temperature=0, stream=True
    )
    arrivals = [(time.monotonic(), chunk.choices[0].delta.content) for chunk in stream if chunk.choices]

    texts = [text for _, text in arrivals if text]
    whole = house.client.chat.completions.create(model="chat", messages=[_user("Hello")], max_tokens=400, temperature=0)
    assert "".join(texts) == whole.choices[0].message.content
    assert len(texts) >= 4, "vLLM joins tokens while it is busy, but never all of them"
    # No time is too long or too short for any machine: words that wait for the last one would come with it.
    first, last = (next(when for when, text in some if text) for some in (arrivals, reversed(arrivals)))
    assert first - asked < 0.9 * (last - asked), "the events came in one burst"


def test_embeddings_tell_a_kitten_from_the_stock_market(house: House) -> None:
    sentences = ["A cat sits on the mat", "A kitten rests on a rug", "The stock market fell today"]
    rows = house.client.embeddings.create(model="embed", input=sentences).data
    cat, kitten, market = (row.embedding for row in rows)

    assert _cosine(cat, kitten) == pytest.approx(0.66, abs=0.02)
    assert _cosine(cat, market) == pytest.approx(0.11, abs=0.02)


def test_an_unknown_model_raises_the_clients_not_found(house: House) -> None:
    with pytest.raises(openai.NotFoundError, match="tiny-llama"):
        house.client.chat.completions.create(model="tiny-lama", messages=[_user("Hello")])


def test_the_engines_own_refusal_raises_the_clients_bad_request(house: House) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        house.client.chat.completions.create(model="chat", messages=[_user("Hello")], temperature=9)

    assert refused.value.param == "temperature"
    assert refused.value.code in (None, "invalid_value"), "the engine says 400, a number"


def test_a_prompt_without_the_gateways_proof_is_refused_by_the_replica(house: House) -> None:
    port = house.replica("tiny-llama")["port"]
    with (
        openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="any", max_retries=0) as direct,
        pytest.raises(openai.APIStatusError) as refused,
    ):
        direct.chat.completions.create(model="tiny-llama", messages=[_user("Hello")])

    assert refused.value.status_code == 421


@pytest.mark.parametrize(
    "victim",
    [
        "VLLM::EngineCore",
        pytest.param("shoal_serving.replica", marks=pytest.mark.nightly),
        pytest.param("ServeReplica", marks=pytest.mark.nightly),
        pytest.param("raylet", marks=pytest.mark.nightly),
    ],
)
def test_a_killed_process_is_healed_without_an_orphan(house: House, victim: str) -> None:
    before = house.replica("tiny-llama")
    doomed = house.processes_of("tiny-llama", ".")
    (process, *_) = house.processes_of("tiny-llama", victim)

    killed = time.monotonic()
    process.send_signal(signal.SIGKILL)
    until(lambda: house.replica("tiny-llama")["restarts"] > before["restarts"], f"{victim}: the restart is seen", 120)
    assert house.replica("tiny-llama")["lastWords"]
    held = house.client.with_options(timeout=READY_WITHIN).chat.completions.create(
        model="chat", messages=[_user("Hello")], max_tokens=4
    )
    print(f"{victim} killed: the next answer {time.monotonic() - killed:.0f} s later")

    assert held.choices[0].message.content
    assert house.is_ready("tiny-llama")
    assert [process for process in doomed if process.is_running()] == []
    assert house.is_ready("all-minilm"), "the other model was not touched"


def test_to_zero_and_back_loses_no_request(house: House) -> None:
    house.write(LLAMA, MINILM | {"spec": MINILM["spec"] | {"replicas": 0}})
    until(lambda: not house.model("all-minilm")["replicas"], "the replica is gone", 180)
    answers: list[int] = []
    asking = threading.Thread(
        target=lambda: answers.append(
            len(house.client.with_options(timeout=READY_WITHIN).embeddings.create(model="embed", input="A cat").data)
        )
    )
    asking.start()
    until(lambda: _waiting(house, "default/all-minilm") == 1, "the request waits", 60)
    wanted = time.monotonic()
    house.write(LLAMA, MINILM)
    asking.join(READY_WITHIN)
    print(f"wanted again: the held request answered {time.monotonic() - wanted:.0f} s later")

    assert answers == [1]


def test_a_broken_edit_leaves_everything_as_it_was(house: House) -> None:
    house.write(LLAMA | {"spec": LLAMA["spec"] | {"model": {"sauce": "file:///x"}}}, MINILM)
    until(lambda: "spec.model.sauce: " in house.status()["manifestFault"], "the fault is told", 120)

    assert house.client.chat.completions.create(model="chat", messages=[_user("Hello")], max_tokens=2).choices
    house.write(LLAMA, MINILM)
    until(lambda: not house.status()["manifestFault"], "the fault is gone", 120)


def test_ctrl_c_leaves_no_process_and_no_port(house: House) -> None:
    everything = house.tree()
    ports = set[int]().union(*map(_ports, everything))
    there = set(psutil.pids())

    house.process.send_signal(signal.SIGINT)

    assert house.process.wait(180) == 0
    assert [process for process in everything if process.is_running()] == []
    # A port that is free again may be had at once by a program that was started meanwhile.
    listening = [c for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.pid in there]
    assert ports & {connection.laddr.port for connection in listening} == set()


def _words(process: psutil.Process) -> str:
    """Its command line and its name; nothing where it has just ended."""
    try:
        return " ".join([*process.cmdline(), process.name()])
    except psutil.NoSuchProcess:
        return ""


def _ports(process: psutil.Process) -> set[int]:
    """Where it listens; nowhere where it has just ended."""
    try:
        return {each.laddr.port for each in process.net_connections("tcp") if each.status == "LISTEN"}
    except psutil.NoSuchProcess:
        return set()


def _user(text: str) -> Any:
    return {"role": "user", "content": text}


def _waiting(house: House, model: str) -> int:
    return int(((house.status().get("load") or {}).get("models") or {}).get(model, {}).get("waiting", 0))


def _cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))
