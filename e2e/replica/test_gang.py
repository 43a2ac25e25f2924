"""A replica of two pods: two programs with real Ray and Serve and a simulated engine, on two addresses of loopback.

Needs SHOAL_ENGINE_PYTHON, the engine environment's Python; `make e2e` sets it.
"""

import http.client
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from facts import until
from held_ports import a_port
from shoal_api import proof, termination
from shoal_api.replica_config import REPORT_FILE, ReplicaConfig
from shoal_serving.replica import process_tree

ROOT = Path(__file__).parents[2]
PYTHON = os.environ["SHOAL_ENGINE_PYTHON"]
KEY = bytes(range(32))
START_SECONDS = 300.0
TOKENS, GAP_SECONDS = 60, 0.2


class Pod:
    """One program of the gang, which can be started again as a kubelet does."""

    def __init__(self, home: Path, rank: int, port: int, head: str) -> None:
        home.mkdir()
        self.work, self.last_words, self._log = home / "work", home / "last-words", home / "log"
        (home / "key").write_text(KEY.hex())
        (home / "token").write_text("one token for all pods of the gang")
        config = ReplicaConfig(
            model="default/big",
            replica="big-r1-0",
            replica_uid="uid-0",
            revision="r1",
            served_name="big",
            source="org/big",
            args=["--simulate-gap-seconds", str(GAP_SECONDS), "--simulate-answer-tokens", str(TOKENS)],
            tensor=2,
            gpus=1,
            nodes=2,
            rank=rank,
            head=head,
            address=f"127.0.0.{2 + rank}",
            host="127.0.0.1",
            port=port,
            drain_seconds=60,
            settle_seconds=0.5,
            model_key_file=home / "key",
            ray_token_file=home / "token",
            directory=self.work,
            termination_message=self.last_words,
        )
        self._file = home / "config.json"
        self._file.write_text(config.model_dump_json(by_alias=True))

    def start(self) -> None:
        paths = f"{ROOT / 'serving'}:{ROOT / 'crds'}"
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                [PYTHON, "-m", "shoal_serving.replica", "--config", str(self._file)],
                env={**os.environ, "PYTHONPATH": paths, "SHOAL_REPLICA_ENGINE": "simulator"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def reports(self) -> list[tuple[str, str]]:
        file = self.work / REPORT_FILE
        lines = file.read_text().splitlines() if file.exists() else []
        return [(report["stage"], report["sentence"]) for report in map(json.loads, lines)]

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def is_ready(self) -> bool:
        return bool(self.reports) and self.reports[-1][0] == "Ready"

    def ended(self, seconds: float = 60.0) -> int:
        return self.process.wait(seconds)

    def words(self) -> str:
        words = termination.read(self.last_words.read_text())
        assert words is not None
        assert not words.permanent
        return words.sentence


class Gang:
    """Both of them."""

    def __init__(self, home: Path) -> None:
        self.port, head = a_port(), f"127.0.0.2:{a_port('127.0.0.2')}"
        self.pods = [Pod(home / f"rank{rank}", rank, self.port, head) for rank in (0, 1)]

    def ready(self) -> None:
        until(lambda: all(pod.is_ready for pod in self.pods), "both ranks ready", START_SECONDS)

    def stream(self, events: list[str]) -> None:
        """The events of one answer, as they come."""
        mac = proof.request_mac(KEY, "0" * proof.NONCE_CHARACTERS, "uid-0")
        body = {"model": "big", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            headers = {proof.MAC_HEADER: mac, "content-type": "application/json"}
            connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
            for line in connection.getresponse():
                if line.strip():
                    events.append(line.decode().strip())  # noqa: PERF401  (who waits for them sees them come)


@pytest.fixture
def gang(tmp_path: Path) -> Iterator[Gang]:
    made = Gang(tmp_path)
    yield made
    for pod in made.pods:
        if hasattr(pod, "process") and pod.process.poll() is None:
            pod.process.kill()
            pod.process.wait()


def test_a_gang_comes_up_as_one_serves_as_one_and_drains_as_one(gang: Gang) -> None:
    first, second = gang.pods
    second.start()
    until(lambda: any("waits for rank 0" in sentence for _, sentence in second.reports), "rank 1 waits", START_SECONDS)
    first.start()
    gang.ready()
    assert "rank 0 runs on 127.0.0.2, rank 1 runs on 127.0.0.3" in first.log
    trees = [process_tree.descendants(pod.process.pid) for pod in gang.pods]
    assert all(trees)
    events: list[str] = []
    client = threading.Thread(target=gang.stream, args=(events,))
    client.start()
    until(lambda: len(events) >= 10, "the answer is under way", 60)
    before = len(events)
    for pod in gang.pods:
        pod.process.send_signal(signal.SIGTERM)

    client.join(60)

    assert (events[-1], len(events) > TOKENS) == ("data: [DONE]", True)
    assert before < TOKENS, "the answer was over before anybody was told to go"
    assert [pod.ended() for pod in gang.pods] == [0, 0]
    assert not any(process_tree.is_alive(process.pid, process.started) for tree in trees for process in tree)


def test_a_lost_pod_ends_the_others_with_its_address_and_they_come_up_again(gang: Gang) -> None:
    first, second = gang.pods
    for pod in gang.pods:
        pod.start()
    gang.ready()

    second.process.kill()

    assert second.ended() < 0
    assert first.ended() == termination.EXIT_FAULT
    assert first.words() == "a pod of this replica was lost (127.0.0.3): all of its pods start anew together"
    for pod in gang.pods:
        pod.start()
    gang.ready()

    first.process.kill()

    assert first.ended() < 0
    assert second.ended() == termination.EXIT_FAULT
    assert "is gone: all of its pods start anew together" in second.words()
