"""The replica program as a real process: ready, drain, death of what is below it, and nothing left behind."""

import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from facts import DEADLINE_SECONDS, until
from held_ports import a_port
from replica_builders import KEY, a_config_file
from shoal_api import proof, termination
from shoal_api.replica_config import REPORT_FILE
from shoal_serving.replica import process_tree

SETTLE_SECONDS = 0.3
STAGE = Path(__file__).parent.parent / "support" / "replica_stage.py"


class Replica:
    """One running program with its files."""

    def __init__(self, home: Path, mode: str, **config: Any) -> None:
        self.home = home
        self.key = KEY
        self.port = a_port()
        file = a_config_file(home, port=self.port, **config)
        self.work = home / "work"
        words = [sys.executable, str(STAGE), str(file), mode]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, start_new_session=True)

    @property
    def stages(self) -> list[str]:
        file = self.work / REPORT_FILE
        return [json.loads(line)["stage"] for line in file.read_text().splitlines()] if file.exists() else []

    def ready(self) -> "Replica":
        until(lambda: "Ready" in self.stages, "ready")
        return self

    def pid(self, name: str) -> int:
        return int(until(lambda: (self.work / name).exists() and (self.work / name).read_text().strip(), name))

    def ended(self) -> int:
        return self.process.wait(DEADLINE_SECONDS)

    def tell(self, name: str) -> None:
        """The stand-in waits for this file."""
        (self.work / name).touch()

    def last_words(self) -> termination.LastWords | None:
        return termination.read((self.home / "last-words").read_text())

    @contextmanager
    def request(self, path: str, method: str = "GET") -> Iterator[http.client.HTTPResponse]:
        with closing(self.asked(path, method)) as connection, connection.getresponse() as answer:
            yield answer

    def asked(self, path: str, method: str) -> http.client.HTTPConnection:
        """A connection on which a request was sent."""
        mac = proof.request_mac(self.key, secrets.token_hex(16), "uid-0")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_SECONDS)
        connection.request(method, path, headers={proof.MAC_HEADER: mac})
        return connection

    def change_key(self) -> None:
        """As kubelet does it: the file is replaced whole."""
        self.key = bytes(reversed(self.key))
        (self.home / "next").write_text(self.key.hex())
        (self.home / "next").replace(self.home / "key")

    def busy_mark(self) -> str | None:
        with self.request("/v1/completions") as answer:
            return answer.getheader(proof.BUSY_HEADER)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Replica]]:
    started: list[Replica] = []

    def begin(mode: str = "serves", **config: Any) -> Replica:
        started.append(Replica(tmp_path, mode, **{"settle_seconds": SETTLE_SECONDS, "drain_seconds": 20, **config}))
        return started[-1]

    yield begin
    for replica in started:
        if replica.process.poll() is None:
            process_tree.end_all_below(
                replica.process.pid, give_up_seconds=5, clock=time.monotonic, sleep=threading.Event().wait
            )
            replica.process.kill()
            replica.process.wait()


def nothing_is_left_of(replica: Replica) -> bool:
    pids = [replica.pid(name) for name in ("core", "actor", "orphan")]
    return all((process := process_tree.look_up(pid)) is None or process.is_zombie for pid in pids)


def test_it_reports_ready_when_its_port_says_so(start: Callable[..., Replica]) -> None:
    replica = start().ready()
    assert replica.stages == ["Ray", "Ready"]
    with replica.request("/health") as answer:
        assert answer.status == 200


@pytest.mark.parametrize("victim", ["core", "actor"])
def test_when_a_vital_process_dies_everything_ends_with_a_sentence(start: Callable[..., Replica], victim: str) -> None:
    replica = start().ready()
    os.kill(replica.pid(victim), signal.SIGKILL)
    assert replica.ended() == termination.EXIT_FAULT
    assert nothing_is_left_of(replica)
    words = replica.last_words()
    assert words is not None
    assert {"core": "the engine core", "actor": "the Serve actor"}[victim] in words.sentence
    assert not words.permanent
    assert replica.stages[-1] == "Failed"
    assert not (replica.work / "session").exists()


def test_a_refused_argument_is_told_as_permanent(start: Callable[..., Replica]) -> None:
    replica = start("refuses")
    assert replica.ended() == termination.EXIT_PERMANENT
    words = replica.last_words()
    assert words == termination.LastWords(
        "vLLM refuses engine.args: unrecognized arguments: --frobnicate", permanent=True
    )
    assert nothing_is_left_of(replica)


def test_an_engine_that_dies_at_its_first_request_is_never_ready_and_says_why(start: Callable[..., Replica]) -> None:
    replica = start("dies-at-first-request")
    assert replica.ended() == termination.EXIT_FAULT
    words = replica.last_words()
    assert words is not None
    assert words.sentence == "the engine died at its first request: RuntimeError: the answer is 42"
    assert "Ready" not in replica.stages


def test_a_port_that_closes_is_a_death(start: Callable[..., Replica]) -> None:
    replica = start("closes-its-port").ready()
    replica.tell("close")
    assert replica.ended() == termination.EXIT_FAULT
    words = replica.last_words()
    assert words is not None
    assert "port is closed" in words.sentence


def test_a_stream_that_runs_at_sigterm_ends_whole(start: Callable[..., Replica]) -> None:
    replica = start().ready()
    with replica.request("/v1/completions?enough", "POST") as stream:
        first = stream.readline()
        replica.process.send_signal(signal.SIGTERM)
        until(lambda: "Draining" in replica.stages, "draining")
        # Its door, which is in another process, learns of it a moment later.
        until(lambda: replica.busy_mark() == "draining", "refused as draining")
        with replica.request("/health") as health:
            assert health.status == 503
        replica.tell("enough")
        body = first + stream.read()
    assert body.endswith(b"data: last\n\ndata: [DONE]\n\n")
    assert replica.ended() == termination.EXIT_DRAINED
    assert nothing_is_left_of(replica)
    assert not (replica.home / "last-words").exists()


@pytest.mark.parametrize("is_known_before", [True, False])
def test_with_another_key_it_serves_and_drains_as_before(start: Callable[..., Replica], is_known_before: bool) -> None:
    replica = start().ready()
    with replica.request("/v1/completions?enough", "POST") as stream:
        first, old = stream.readline(), replica.key
        replica.change_key()
        if is_known_before:
            assert replica.busy_mark() is None
            replica.key, new = old, replica.key
            with replica.request("/v1/completions") as refused:
                assert refused.status == 421
            replica.key = new
        replica.process.send_signal(signal.SIGTERM)
        until(lambda: replica.busy_mark() == "draining", "refused as draining")
        replica.tell("enough")
        body = first + stream.read()
    assert body.endswith(b"data: last\n\ndata: [DONE]\n\n")
    assert replica.ended() == termination.EXIT_DRAINED
    assert nothing_is_left_of(replica)


def test_ctrl_c_in_a_terminal_reaches_the_program_alone_and_drains(start: Callable[..., Replica]) -> None:
    replica = start().ready()
    with replica.request("/v1/completions?enough", "POST") as stream:
        first = stream.readline()
        os.killpg(replica.process.pid, signal.SIGINT)
        until(lambda: "Draining" in replica.stages, "draining")
        replica.tell("enough")
        body = first + stream.read()
    assert body.endswith(b"data: [DONE]\n\n")
    assert replica.ended() == termination.EXIT_DRAINED
    assert nothing_is_left_of(replica)


def test_a_replica_too_busy_to_hear_that_it_shall_go_cuts_nothing_that_it_then_lets_in(
    start: Callable[..., Replica],
) -> None:
    replica = start().ready()
    actor = replica.pid("actor")
    os.kill(actor, signal.SIGSTOP)
    replica.process.send_signal(signal.SIGTERM)
    until(lambda: "Draining" in replica.stages, "draining")
    told_at = time.monotonic()
    until(lambda: time.monotonic() > told_at + SETTLE_SECONDS)
    with closing(replica.asked("/v1/completions?enough", "POST")) as connection:
        os.kill(actor, signal.SIGCONT)
        with connection.getresponse() as answer:
            first = answer.readline()
            # Longer than what the program would leave to processes that it ends.
            until(lambda: time.monotonic() > told_at + 5)
            replica.tell("enough")
            assert (first + answer.read()).endswith(b"data: [DONE]\n\n")
    assert replica.ended() == termination.EXIT_DRAINED
    assert nothing_is_left_of(replica)


def test_a_stream_longer_than_the_drain_may_last_is_cut(start: Callable[..., Replica]) -> None:
    replica = start(drain_seconds=1.0).ready()
    with replica.request("/v1/completions?never", "POST") as stream:
        stream.readline()
        replica.process.send_signal(signal.SIGTERM)
        assert replica.ended() == termination.EXIT_DRAINED
        assert nothing_is_left_of(replica)
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            stream.read()


def test_sigterm_during_the_start_ends_at_once(start: Callable[..., Replica]) -> None:
    replica = start("starts-forever")
    replica.pid("actor")
    replica.process.send_signal(signal.SIGTERM)
    assert replica.ended() == termination.EXIT_DRAINED
    assert nothing_is_left_of(replica)
    assert "Draining" not in replica.stages


def test_a_second_sigterm_ends_the_drain(start: Callable[..., Replica]) -> None:
    replica = start(drain_seconds=600.0).ready()
    with replica.request("/v1/completions?never", "POST") as stream:
        stream.readline()
        replica.process.send_signal(signal.SIGTERM)
        until(lambda: "Draining" in replica.stages, "draining")
        replica.process.send_signal(signal.SIGTERM)
        assert replica.ended() == termination.EXIT_DRAINED
    assert nothing_is_left_of(replica)
