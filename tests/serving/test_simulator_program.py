"""The simulator as a program: its stages, its drain, its last words and its exit codes are the replica's."""

import http.client
import json
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from facts import DEADLINE_SECONDS
from held_ports import a_port
from shoal_api import proof, termination
from simulated import CHAT, KEY, NONCE, UID, ReplicaProcess, a_chat, a_mac, replica_process

SLOW = ("--simulate-gap-seconds", "0.02")


@contextmanager
def a_stream(replica: ReplicaProcess, tokens: int, **headers: str) -> Iterator[http.client.HTTPResponse]:
    """An answer that has begun."""
    connection = http.client.HTTPConnection("127.0.0.1", replica.config.port, timeout=DEADLINE_SECONDS)
    body = json.dumps(a_chat(stream=True, max_tokens=tokens, ignore_eos=True))
    connection.request("POST", CHAT, body, {"content-type": "application/json", **a_mac(), **headers})
    answer = connection.getresponse()
    try:
        answer.readline()
        yield answer
    finally:
        answer.close()
        connection.close()


def asked(replica: ReplicaProcess, method: str, path: str, body: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", replica.config.port, timeout=DEADLINE_SECONDS)
    try:
        connection.request(method, path, body, {"content-type": "application/json", **a_mac()})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_it_starts_in_the_replicas_stages_and_refuses_connections_until_ready(tmp_path: Path) -> None:
    with replica_process(
        tmp_path, "--simulate-engine-seconds=0.5", "--max-model-len", "99", "--dtype", "float32"
    ) as replica:
        replica.wait_for_stage("Engine")
        assert replica.health() == 0
        replica.wait_for_stage("Ready")
        assert replica.stages == ["Ray", "Imports", "Engine", "SelfTest", "Ready"]
        assert replica.health() == 200
        assert '"max_model_len":99' in asked(replica, "GET", "/v1/models")[1]


def test_sigterm_lets_what_runs_finish_and_ends_with_0(tmp_path: Path) -> None:
    with replica_process(tmp_path, *SLOW) as replica:
        replica.wait_for_stage("Ready")
        with a_stream(replica, tokens=9000) as answer:
            replica.process.send_signal(signal.SIGTERM)
            replica.wait_for_stage("Draining")
            assert replica.health() == 503
            assert asked(replica, "POST", "/simulator/knobs", '{"gap-seconds": 0.0001}')[0] == 200
            assert answer.read().endswith(b"data: [DONE]\n\n")
            assert replica.exit_code() == termination.EXIT_DRAINED
            assert replica.last_words == ""


def test_it_takes_another_key_while_it_runs(tmp_path: Path) -> None:
    other = bytes(reversed(KEY))
    with replica_process(tmp_path, *SLOW) as replica:
        replica.wait_for_stage("Ready")
        with a_stream(replica, tokens=30) as answer:
            (tmp_path / "next").write_text(other.hex())
            (tmp_path / "next").replace(replica.config.model_key_file)
            new = {proof.MAC_HEADER: proof.request_mac(other, NONCE, UID)}
            with a_stream(replica, tokens=3, **new) as another:
                assert another.status == 200
                assert another.read().endswith(b"data: [DONE]\n\n")
            assert asked(replica, "GET", "/v1/models")[0] == 421
            assert answer.read().endswith(b"data: [DONE]\n\n")


def test_after_the_settle_time_it_refuses_as_draining(tmp_path: Path) -> None:
    with replica_process(tmp_path, *SLOW, drain_seconds=600) as replica:
        replica.wait_for_stage("Ready")
        with a_stream(replica, tokens=9000):
            assert asked(replica, "POST", proof.DRAIN_PATH)[0] == 200
            status = 200
            while status == 200:
                status, text = asked(replica, "POST", CHAT, json.dumps(a_chat()))
            assert (status, json.loads(text)["error"]["code"]) == (503, "replica_busy")
        assert replica.exit_code() == termination.EXIT_DRAINED


def test_the_drain_has_a_deadline(tmp_path: Path) -> None:
    with replica_process(tmp_path, *SLOW, drain_seconds=0.3) as replica:
        replica.wait_for_stage("Ready")
        with a_stream(replica, tokens=9000):
            replica.process.send_signal(signal.SIGTERM)
            assert replica.exit_code() == termination.EXIT_DRAINED


def test_an_engines_death_ends_the_program_with_a_reason(tmp_path: Path) -> None:
    with replica_process(tmp_path, "--simulate-dying-seconds", "0.05") as replica:
        replica.wait_for_stage("Ready")
        assert asked(replica, "POST", "/simulator/faults", '{"kind": "engine-death"}')[0] == 200
        assert asked(replica, "POST", CHAT, json.dumps(a_chat()))[0] == 500
        assert replica.exit_code() == termination.EXIT_FAULT
        words = termination.read(replica.last_words)
        assert words is not None
        assert (words.permanent, "engine's core process ended" in words.sentence) == (False, True)
        assert replica.stages[-1] == "Failed"


def test_a_process_death_is_a_kill_in_the_middle_of_the_stream(tmp_path: Path) -> None:
    with replica_process(tmp_path, "--simulate-header-faults") as replica:
        replica.wait_for_stage("Ready")
        with a_stream(replica, tokens=50, **{"x-simulate": "process-death after=5"}) as answer:
            with pytest.raises((http.client.IncompleteRead, ConnectionError)):
                answer.read()
            assert replica.exit_code() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("permanently", "code"), [("false", termination.EXIT_FAULT), ("true", termination.EXIT_PERMANENT)]
)
def test_it_can_fail_at_a_stage(tmp_path: Path, permanently: str, code: int) -> None:
    args = ("--simulate-fail-at", "Engine", "--simulate-fail-permanently", permanently)
    with replica_process(tmp_path, *args, "--simulate-fail-sentence", "no memory on the device") as replica:
        assert replica.exit_code() == code
        assert replica.stages == ["Ray", "Imports", "Engine", "Failed"]
        words = termination.read(replica.last_words)
        assert words == termination.LastWords("no memory on the device", permanent=permanently == "true")


@pytest.mark.parametrize(
    ("args", "fields", "sentence"),
    [
        (("--simulate-speed", "3"), {}, "there is no knob speed"),
        (("--simulate-gap-seconds", "soon"), {}, "gap-seconds must be a number, not soon"),
        (("--simulate-faults", "[{"), {}, "the knob faults cannot be read"),
        ((), {"model_key_file": Path("/nowhere/key")}, "the model key /nowhere/key cannot be read"),
    ],
)
def test_a_wrong_configuration_is_a_permanent_fault(
    tmp_path: Path, args: tuple[str, ...], fields: dict[str, object], sentence: str
) -> None:
    with replica_process(tmp_path, *args, **fields) as replica:
        assert replica.exit_code() == termination.EXIT_PERMANENT
        words = termination.read(replica.last_words)
        assert words is not None
        assert words.permanent
        assert sentence in words.sentence


def test_a_taken_port_is_a_fault_that_names_it(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with replica_process(tmp_path, port=port) as replica:
            assert replica.exit_code() == termination.EXIT_FAULT
            assert f"port {port} of 127.0.0.1 cannot be listened on" in replica.last_words


def test_refuse_closes_the_listening_socket_for_a_while(tmp_path: Path) -> None:
    with replica_process(tmp_path) as replica:
        replica.wait_for_stage("Ready")
        connection = http.client.HTTPConnection("127.0.0.1", replica.config.port, timeout=DEADLINE_SECONDS)
        connection.request("POST", "/simulator/faults", '{"kind": "refuse"}', a_mac())
        connection.getresponse().read()
        assert replica.health() == 0
        connection.request("DELETE", "/simulator/faults", headers=a_mac())
        connection.getresponse().read()
        connection.close()
        while replica.health() == 0:
            assert replica.process.poll() is None
        assert replica.health() == 200


def test_faults_can_be_in_force_from_the_start(tmp_path: Path) -> None:
    with replica_process(tmp_path, "--simulate-faults", '{"kind": "status", "code": 504, "count": 1}') as replica:
        replica.wait_for_stage("Ready")
        statuses = [asked(replica, "POST", CHAT, json.dumps(a_chat()))[0] for _ in range(2)]
        assert statuses == [504, 200]


def test_its_port_is_free_again_when_it_has_ended(tmp_path: Path) -> None:
    port = a_port()
    for run in ("a", "b"):
        folder = tmp_path / run
        folder.mkdir()
        with replica_process(folder, port=port) as replica:
            replica.wait_for_stage("Ready")
            assert replica.health() == 200
