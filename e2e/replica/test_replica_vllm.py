"""The replica program with real Ray, Serve and vLLM on CPU.

Needs SHOAL_ENGINE_PYTHON (the engine environment's Python) and SHOAL_TEST_MODELS (the folder that
examples/quickstart/make_models.py fills); `make e2e` sets both, `make nightly` runs the rows marked so, too.
"""

import http.client
import json
import math
import os
import secrets
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from facts import until
from held_ports import a_port
from shoal_api import proof, termination
from shoal_api.replica_config import REPORT_FILE, ReplicaConfig
from shoal_serving.replica import process_tree

ROOT = Path(__file__).parents[2]
PYTHON = os.environ["SHOAL_ENGINE_PYTHON"]
MODELS = Path(os.environ["SHOAL_TEST_MODELS"])
KEY = bytes(range(32))
START_SECONDS = 300.0
GREEDY = {"model": "tiny-llama", "prompt": "once upon a time", "temperature": 0, "ignore_eos": True}


class Replica:
    """One replica program with its files."""

    def __init__(self, home: Path, model: str, **changes: Any) -> None:
        self.home, self.work = home, home / "work"
        self.port = a_port()
        (home / "key").write_text(KEY.hex())
        (home / "token").write_text(secrets.token_hex(16))
        given: dict[str, Any] = {
            "model": f"default/{model}",
            "replica": f"{model}-0",
            "replica_uid": "uid-0",
            "revision": "r1",
            "served_name": model,
            "source": str(MODELS / model),
            "args": ["--dtype", "float32", "--max-model-len", "1024"],
            "host": "127.0.0.1",
            "port": self.port,
            "drain_seconds": 60,
            "settle_seconds": 1,
            "model_key_file": home / "key",
            "ray_token_file": home / "token",
            "directory": self.work,
            "termination_message": home / "last-words",
        }
        if model == "all-minilm-l6-v2":
            given["args"] = []
        file = home / "config.json"
        file.write_text(ReplicaConfig(**{**given, **changes}).model_dump_json(by_alias=True))
        paths = f"{ROOT / 'crds'}:{ROOT / 'serving'}"
        with (home / "output").open("wb") as output:
            self.process = subprocess.Popen(
                [PYTHON, "-m", "shoal_serving.replica", "--config", str(file), "--end-with-parent"],
                env={**os.environ, "PYTHONPATH": paths},
                stdout=output,
                stderr=output,
                cwd=home,
            )
        self.seen: dict[int, int] = {}
        self.segments: set[Path] = set()

    @property
    def reports(self) -> list[dict[str, Any]]:
        file = self.work / REPORT_FILE
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def stages(self) -> list[str]:
        return [report["stage"] for report in self.reports]

    def ready(self) -> "Replica":
        until(lambda: self.stages[-1:] in (["Ready"], ["Failed"]), "ready", START_SECONDS)
        assert self.stages[-1] == "Ready", self.reports[-1]
        return self

    def ended(self, seconds: float = START_SECONDS) -> int:
        """The exit code, when the program has ended; everything that lived below it is remembered."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, "the program did not end"
            self.remember()
            threading.Event().wait(0.05)
        return self.process.returncode

    def remember(self) -> None:
        for process in process_tree.descendants(self.process.pid):
            self.seen[process.pid] = process.started
        self.segments |= process_tree.shared_memory_below(self.process.pid)

    def below(self, *words: str) -> process_tree.Process:
        """The first process below whose command line contains all of these words."""
        self.remember()
        for process in process_tree.descendants(self.process.pid):
            try:
                line = Path(f"/proc/{process.pid}/cmdline").read_text()
            except OSError:
                continue
            if all(word in line for word in words):
                return process
        raise AssertionError(f"no process with {words}")

    def leaves_nothing(self) -> None:
        alive = [pid for pid, started in self.seen.items() if process_tree.is_alive(pid, started)]
        assert alive == []
        assert {segment for segment in self.segments if segment.exists()} == set()
        until(self.port_is_closed, "the port closed", 60)  # a killed process needs a moment to close it

    def port_is_closed(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) != 0

    def last_words(self) -> termination.LastWords | None:
        return termination.read((self.home / "last-words").read_text())

    @contextmanager
    def request(
        self, path: str, body: dict[str, Any] | None = None, *, mac: bool = True
    ) -> Iterator[http.client.HTTPResponse]:
        headers = {"content-type": "application/json"}
        if mac:
            headers[proof.MAC_HEADER] = proof.request_mac(KEY, secrets.token_hex(16), "uid-0")
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)) as connection:
            text = None if body is None else json.dumps(body)
            connection.request("GET" if body is None else "POST", path, text, headers)
            with connection.getresponse() as answer:
                yield answer

    def health(self) -> int:
        """What a probe is answered."""
        with self.request("/health", mac=False) as answer:
            return answer.status

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        with self.request(path, body) as answer:
            assert answer.status == 200, answer.read()
            return json.loads(answer.read())


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Replica]]:
    started: list[Replica] = []

    def begin(model: str = "tiny-llama", **changes: Any) -> Replica:
        started.append(Replica(tmp_path, model, **changes))
        return started[-1]

    yield begin
    for replica in started:
        if replica.process.poll() is None:
            replica.process.kill()
            replica.process.wait()


def test_chat_streams_token_by_token_and_every_stage_is_reported(start: Callable[..., Replica]) -> None:
    replica = start().ready()
    assert replica.stages == ["Ray", "Imports", "Engine", "SelfTest", "Ready"]
    assert replica.health() == 200
    with replica.request("/v1/models", mac=False) as refused:
        assert refused.status == 421
    assert [model["id"] for model in replica.ask("/v1/models")["data"]] == ["tiny-llama"]
    renamed = replica.ask("/v1/completions", {**GREEDY, "model": "the-name-of-the-next-revision", "max_tokens": 2})
    assert renamed["model"] == "tiny-llama"
    chat = {"model": "tiny-llama", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 900, "stream": True}
    with replica.request("/v1/chat/completions", chat | {"temperature": 0, "ignore_eos": True}) as stream:
        events = [line for line in stream.read().decode().split("\n\n") if line]
    assert events[-1] == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-1]]
    assert len(chunks) > 20  # a busy machine puts several tokens into one event
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    print(f"longest gap in a stream of 900 tokens: {longest_gap(replica, 900) * 1000:.0f} ms")
    replica.remember()
    replica.process.send_signal(signal.SIGTERM)
    assert replica.ended(120) == termination.EXIT_DRAINED
    replica.leaves_nothing()
    began = replica.reports[0]["at"]
    print("seconds:", {report["stage"]: round(report["at"] - began, 1) for report in replica.reports})


def longest_gap(replica: Replica, tokens: int) -> float:
    """Seconds between two events of one stream, after its first."""
    with replica.request("/v1/completions", {**GREEDY, "max_tokens": tokens, "stream": True}) as stream:
        came = [time.monotonic() for line in stream if line.startswith(b"data: ")]
    assert len(came) > 20
    return max(later - earlier for earlier, later in pairwise(came))


@pytest.mark.nightly
def test_embeddings_can_be_judged(start: Callable[..., Replica]) -> None:
    replica = start("all-minilm-l6-v2").ready()
    texts = ["A cat sits on the mat", "A kitten rests on a rug", "The stock market fell today"]
    answer = replica.ask("/v1/embeddings", {"model": "all-minilm-l6-v2", "input": texts})
    cat, kitten, market = ([float(x) for x in entry["embedding"]] for entry in answer["data"])
    assert math.isclose(cosine(cat, kitten), 0.66, abs_tol=0.01)
    assert math.isclose(cosine(cat, market), 0.11, abs_tol=0.01)


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


@pytest.mark.nightly
def test_an_engine_that_cannot_serve_one_request_is_never_ready(start: Callable[..., Replica]) -> None:
    replica = start("head-dim-16")
    assert replica.ended() == termination.EXIT_PERMANENT
    words = replica.last_words()
    assert words is not None
    assert "head_dim=16" in words.sentence
    assert "Ready" not in replica.stages
    replica.leaves_nothing()


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"args": ["--frobnicate", "3"]}, "--frobnicate"),
        ({"args": ["--max-model-len", "many"]}, "--max-model-len"),
        ({"args": ["--max-model-len", "99999"]}, "max_position_embeddings is 2048"),
        ({"source": "/nowhere/llama"}, "/nowhere/llama does not exist"),
        ({"tensor": 3}, "parallelism.tensor is 3"),
    ],
)
def test_what_repeating_cannot_heal_is_told_as_permanent(
    start: Callable[..., Replica], changes: dict[str, Any], says: str
) -> None:
    replica = start(**changes)
    assert replica.ended() == termination.EXIT_PERMANENT
    words = replica.last_words()
    assert words is not None
    assert words.permanent
    assert says in words.sentence
    replica.leaves_nothing()


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("victim", "says"),
    [
        (["VLLM::EngineCore"], "the engine core died"),
        (["VLLM::Worker"], "the engine core died"),
        (["ray::ServeReplica"], "the Serve actor died"),
        (["raylet/raylet"], "Ray's raylet"),
        (["gcs_server"], "Ray's gcs server"),
        (["shoal_serving.replica.ray_cluster"], "Ray's driver"),
    ],
)
def test_a_death_ends_everything_within_seconds_and_the_next_start_gets_the_port(
    start: Callable[..., Replica], victim: list[str], says: str
) -> None:
    replica = start().ready()
    replica.ask("/v1/completions", {**GREEDY, "max_tokens": 4})
    died = replica.below(*victim)
    begun = time.monotonic()
    os.kill(died.pid, signal.SIGKILL)
    assert replica.ended(60) == termination.EXIT_FAULT
    print(f"{victim[0]}: everything ended after {time.monotonic() - begun:.1f} s")
    words = replica.last_words()
    assert words is not None
    assert says in words.sentence
    assert not words.permanent
    replica.leaves_nothing()


@pytest.mark.nightly
def test_when_the_program_itself_is_killed_nothing_is_left(start: Callable[..., Replica]) -> None:
    replica = start().ready()
    replica.remember()
    replica.process.kill()
    replica.process.wait()
    until(lambda: not [p for p, began in replica.seen.items() if process_tree.is_alive(p, began)], "all gone", 60)
    replica.leaves_nothing()


def test_a_long_stream_at_sigterm_ends_whole_and_equal(start: Callable[..., Replica]) -> None:
    replica = start().ready()
    whole = replica.ask("/v1/completions", {**GREEDY, "max_tokens": 1000})["choices"][0]["text"]
    with replica.request("/v1/completions", {**GREEDY, "max_tokens": 1000, "stream": True}) as stream:
        first = stream.readline()
        replica.remember()
        replica.process.send_signal(signal.SIGTERM)
        until(lambda: "Draining" in replica.stages, "draining", 60)
        until(lambda: replica.health() == 503, "not ready any more", 60)  # its door learns of it a moment later
        body = (first + stream.read()).decode()
    events = [line.removeprefix("data: ") for line in body.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    assert "".join(json.loads(event)["choices"][0]["text"] for event in events[:-1]) == whole
    assert replica.ended(120) == termination.EXIT_DRAINED
    replica.leaves_nothing()


@pytest.mark.nightly
def test_two_ranks_on_cpu_answer(start: Callable[..., Replica]) -> None:
    replica = start(tensor=2).ready()
    answer = replica.ask("/v1/completions", {**GREEDY, "max_tokens": 16})
    assert answer["usage"]["completion_tokens"] == 16
    assert len([process for process in process_tree.descendants(replica.process.pid) if "Worker" in process.name]) == 2
