"""`shoal up` as a whole: real processes, killed, edited and stopped; only the engine is a stand-in."""

import http.client
import json
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from facts import DEADLINE_SECONDS, until
from held_ports import own_range
from one_machine_up import COMMAND, Up, a_file_model, up
from shoal_operator.status_report import UpReport
from shoal_operator.supervised import HOST


def routes(running: Up) -> list[str]:
    """The replicas that the gateway may use."""
    document = json.loads((running.home / "run" / str(running.port) / "routes.json").read_text())
    return [endpoint["replica"] for model in document["models"] for endpoint in model["endpoints"]]


def test_a_manifest_becomes_an_address_and_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    with up(tmp_path, a_file_model(tmp_path)) as running:
        [replica] = running.until_ready()
        running.until_said(f"one answers on http://{HOST}:{running.port}/v1 as: one")
        assert routes(running) == [replica.name]
        # It says that the load is unknown where the gateway does not answer within two seconds.
        ready = "1 of 1 replicas ready, 0 waiting, 0 in flight"
        until(lambda: ready in subprocess.check_output([*COMMAND, "status"], env=running.environment, text=True))

        assert running.end(signal.SIGINT) == 0
        running.until_nothing_is_left()

        assert sorted(p.name for p in (running.home / "run" / str(running.port)).iterdir()) == ["lock", "logs"]
        told = subprocess.run([*COMMAND, "status"], env=running.environment, capture_output=True, text=True)
        assert (told.returncode, "no `shoal up` is running" in told.stdout) == (1, True)


def test_ctrl_c_lets_a_running_stream_end(tmp_path: Path) -> None:
    slow = a_file_model(tmp_path, args=["--simulate-gap-seconds", "0.05", "--simulate-answer-tokens", "40"])
    with up(tmp_path, slow, flags="--simulator") as running:
        running.until_ready()
        client = http.client.HTTPConnection(HOST, running.port, timeout=DEADLINE_SECONDS)
        question = {"model": "one", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
        client.request("POST", "/v1/chat/completions", json.dumps(question), {"content-type": "application/json"})
        answer = client.getresponse()
        first = answer.readline()

        running.process.send_signal(signal.SIGINT)
        rest = answer.read()

        assert first.startswith(b"data: {")
        assert rest.endswith(b"data: [DONE]\n\n")
        assert rest.count(b"data: {") >= 40
        client.close()
        assert running.process.wait(DEADLINE_SECONDS) == 0


def test_a_killed_replica_program_is_healed_and_its_orphan_ended(tmp_path: Path) -> None:
    with up(tmp_path, a_file_model(tmp_path, args=["--orphan"])) as running:
        [replica] = running.until_ready()
        program = running.program_of(replica)
        [orphan] = until(program.children)

        program.kill()
        until(lambda: not orphan.is_running())
        running.until_said("ended by SIGKILL")
        [again] = running.until_ready()

        assert (again.name, again.restarts) == (replica.name, 1)
        assert "SIGKILL" in again.last_words
        assert "StraysEnded" not in running.said(), "the replica's own keeper did it"
        assert running.end() == 0


def test_a_killed_keeper_leaves_neither_program_nor_orphan(tmp_path: Path) -> None:
    with up(tmp_path, a_file_model(tmp_path, args=["--orphan"])) as running:
        [replica] = running.until_ready()
        program = running.program_of(replica)
        [orphan] = until(program.children)
        keeper = program.parent()
        assert keeper is not None

        keeper.kill()

        until(lambda: not (program.is_running() or orphan.is_running()))
        running.until_said("reason=StraysEnded")
        assert running.until_ready()[0].restarts == 1


def back(running: Up, restarts: int) -> UpReport | None:
    """The report of one whose gateway is ready after so many restarts."""
    now = running.report()
    return now if now is not None and now.gateway.restarts == restarts and now.gateway.ready else None


def test_a_killed_gateway_comes_back_on_the_same_address(tmp_path: Path) -> None:
    with up(tmp_path, a_file_model(tmp_path)) as running:
        running.until_ready()
        report = running.report()
        assert report is not None
        assert report.gateway.pid is not None

        for times in (1, 2, 3):
            psutil.Process(report.gateway.pid).kill()
            report = until(lambda times=times: back(running, times), running.said)
            assert report.gateway.pid is not None
        with socket.create_connection((HOST, running.port)):
            pass


def test_what_serves_goes_on_while_nothing_can_be_written(tmp_path: Path) -> None:
    with up(tmp_path, a_file_model(tmp_path), a_file_model(tmp_path, "two")) as running:
        [replica] = running.until_ready()
        [other] = running.until_ready(model="two")
        run = running.home / "run" / str(running.port)
        scratch, logs = tmp_path / "scratch", run / "logs"
        parts = [run / f".{name}.part" for name in ("status.json", "routes.json")]
        program, gateway = running.program_of(replica), running.report()
        assert gateway is not None
        assert gateway.gateway.pid is not None

        for part in parts:
            part.mkdir()
        scratch.rename(tmp_path / "away")
        logs.rename(tmp_path / "logs away")
        program.kill()
        running.until_said("reason=NotPublished")
        running.until_said("the replica program cannot be started")
        psutil.Process(gateway.gateway.pid).kill()
        assert running.program_of(other).is_running()

        (tmp_path / "logs away").rename(logs)
        (tmp_path / "away").rename(scratch)
        for part in parts:
            part.rmdir()
        running.until_ready()
        assert running.until_ready(model="two")[0].pid == other.pid
        assert running.end() == 0


def test_a_replica_for_which_no_port_is_left_ends_no_other(tmp_path: Path) -> None:
    two = range(own_range().stop - 2, own_range().stop)
    with up(tmp_path, a_file_model(tmp_path, replicas=2), ports=two) as running:
        running.until_said("no port is left")
        first = until(lambda: next((r for r in running.replicas() if r.state == "Ready"), None), running.said)
        assert running.program_of(first).is_running()
        assert running.end() == 0


def test_a_killed_shoal_up_leaves_nothing_and_the_next_one_starts(tmp_path: Path) -> None:
    with up(tmp_path, a_file_model(tmp_path, args=["--orphan", "--ignore-term"])) as running:
        [replica] = running.until_ready()
        running.program_of(replica)
        running.processes()

        running.process.kill()
        running.process.wait()

        running.until_nothing_is_left()
        told = subprocess.run([*COMMAND, "status"], env=running.environment, capture_output=True, text=True)
        assert "ended without clearing up" in told.stdout
    with up(tmp_path, a_file_model(tmp_path), port=running.port) as second:
        second.until_ready()


def test_a_replica_that_ignores_the_drain_is_ended_by_the_second_ctrl_c(tmp_path: Path) -> None:
    with up(tmp_path, a_file_model(tmp_path, args=["--ignore-term"], rollout={"drainSeconds": 600})) as running:
        running.until_ready()
        running.process.send_signal(signal.SIGINT)
        running.until_said("stopping")

        assert running.end(signal.SIGINT) == 0


def test_a_permanent_fault_is_said_once_and_not_repeated(tmp_path: Path) -> None:
    with up(tmp_path, a_file_model(tmp_path, args=["--exit", "78", "there is no flag --foo"])) as running:
        assert running.process.wait(DEADLINE_SECONDS) == 1

        said = running.said()
        assert "error: default/one: there is no flag --foo" in said
        log = next((running.home / "run" / str(running.port) / "logs").glob("default.one-*.log"))
        assert log.read_text().count("--- ") == 1


def test_a_passing_fault_is_tried_three_times_before_the_first_start_fails(tmp_path: Path) -> None:
    with up(tmp_path, a_file_model(tmp_path, args=["--exit", "1", "the engine ran out of memory"])) as running:
        assert running.process.wait(DEADLINE_SECONDS) == 1

        assert "error: default/one: the engine ran out of memory" in running.said()
        log = next((running.home / "run" / str(running.port) / "logs").glob("default.one-*.log"))
        assert log.read_text().count("--- ") == 3


def test_one_model_that_cannot_start_does_not_stop_the_other(tmp_path: Path) -> None:
    bad = a_file_model(tmp_path, "bad", args=["--exit", "78", "there is no flag --foo"])
    with up(tmp_path, a_file_model(tmp_path), bad) as running:
        running.until_ready()
        running.until_said("reason=CannotStart")

        told = subprocess.run([*COMMAND, "status"], env=running.environment, capture_output=True, text=True)
        assert "Ready=False CannotStart: there is no flag --foo" in told.stdout
        document = json.loads((running.home / "run" / str(running.port) / "routes.json").read_text())
        assert {m["name"]: m["cannotStart"] for m in document["models"]} == {
            "one": "",
            "bad": "there is no flag --foo",
        }


def test_the_first_start_is_over_once_a_model_has_worked(tmp_path: Path) -> None:
    bad = a_file_model(tmp_path, "bad", args=["--exit", "78", "there is no flag --foo"])
    with up(tmp_path, a_file_model(tmp_path)) as running:
        running.until_ready()

        running.write(bad)
        until(lambda: not running.replicas() and "reason=Removed" in running.said(), running.said)
        running.until_said("model=default/bad reason=CannotStart")
        running.write(a_file_model(tmp_path))

        running.until_ready()
        assert running.end() == 0


def test_edits_of_the_file_are_carried_out_and_broken_ones_are_not(tmp_path: Path) -> None:
    with up(tmp_path, a_file_model(tmp_path)) as running:
        [first] = running.until_ready()
        running.write(a_file_model(tmp_path, replicas=2))
        assert first.name in [r.name for r in running.until_ready(2)]

        running.file.write_text(running.file.read_text().replace("replicas: 2", "replicas: two"))
        running.until_said("spec.replicas: ")
        report = running.report()
        assert report is not None
        assert "spec.replicas" in report.manifest_fault
        assert len(running.replicas()) == 2

        running.write(a_file_model(tmp_path, replicas=0))
        until(lambda: not running.replicas(), running.said)
        running.until_said("reason=AtZero")
        running.write(a_file_model(tmp_path, replicas=1), a_file_model(tmp_path, "two"))
        running.until_ready(1)
        running.until_ready(1, "two")

        running.write(a_file_model(tmp_path, replicas=1))
        until(lambda: not running.replicas("two"), running.said)
        assert running.until_ready(1)
        assert running.end(signal.SIGTERM) == 0


def test_new_engine_flags_replace_the_replica_and_bad_ones_bring_the_old_one_back(tmp_path: Path) -> None:
    with up(tmp_path, a_file_model(tmp_path)) as running:
        [old] = running.until_ready()

        running.write(a_file_model(tmp_path, args=["--slow", "0.1"]))
        new = until(lambda: next((r for r in running.replicas() if r.revision != old.revision), None), running.said)
        assert not Path(f"/proc/{old.pid}").exists(), "on one machine the old one makes room first"
        [new] = running.until_ready()

        running.write(a_file_model(tmp_path, args=["--exit", "78", "there is no flag --foo"]))
        running.until_said("reason=Restored")
        [restored] = running.until_ready()
        assert restored.revision == new.revision
        report = running.report()
        assert report is not None
        progressing = next(c for c in report.models[0].status.conditions if c.type == "Progressing")
        assert (progressing.status, progressing.reason, progressing.message) == (
            "False",
            "CannotStart",
            "there is no flag --foo",
        )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model": {"source": "file:///nowhere/llama"}}, "/nowhere/llama does not exist: name the folder of a model"),
        ({"resources": {"gpu": 1}}, "spec.resources.gpu is 1 and this machine has no GPU: set it to 0 for the CPU"),
        ({"engine": {"args": ["--port", "1"]}}, "spec.engine.args"),
        ({"engine": {"image": "x"}}, "spec.engine.image: one machine runs the installed engine environment"),
        (
            {"engine": {"env": [{"name": "VLLM_CPU_KVCACHE_SPACE", "value": "100000"}]}},
            "of memory and",
        ),
    ],
)
def test_a_model_that_cannot_be_served_ends_in_one_sentence(
    tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    if "resources" in change and list(Path("/dev").glob("nvidia[0-9]*")):
        pytest.skip("this machine has a GPU")
    with up(tmp_path, a_file_model(tmp_path, **change)) as running:
        assert running.process.wait(DEADLINE_SECONDS) == 1

        errors = [line for line in running.said().splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert sentence in errors[0]


def test_a_missing_engine_environment_says_how_to_make_it(tmp_path: Path) -> None:
    with up(tmp_path, a_file_model(tmp_path), engine=False) as running:
        assert running.process.wait(DEADLINE_SECONDS) == 1

        assert "run: shoal engine install --cpu" in running.said()


def test_a_taken_port_is_said_before_anything_is_started(tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text(json.dumps(a_file_model(tmp_path)))
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        address = f"{HOST}:{listener.getsockname()[1]}"

        told = subprocess.run(
            [*COMMAND, "up", "-f", str(file), "--listen", address],
            env=os.environ | {"SHOAL_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
        )

    assert told.returncode == 1
    assert told.stderr == f"error: --listen {address}: another program listens there; stop it, or give another port\n"
    assert told.stdout == ""


def test_a_second_shoal_up_on_the_port_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    with up(tmp_path, a_file_model(tmp_path)) as running:
        running.until_ready()

        told = subprocess.run(
            [*COMMAND, "up", "-f", str(running.file), "--listen", f"{HOST}:{running.port}"],
            env=running.environment,
            capture_output=True,
            text=True,
        )

        assert told.returncode == 1
        assert "another `shoal up` serves on port" in told.stderr
        assert [r.state for r in running.replicas()] == ["Ready"]


def test_an_address_for_everybody_wants_to_be_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text(json.dumps(a_file_model(tmp_path)))

    told = subprocess.run(
        [*COMMAND, "up", "-f", str(file), "--listen", "0.0.0.0:8000"],
        env=os.environ | {"SHOAL_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )

    assert told.returncode == 1
    assert "add --allow-anonymous" in told.stderr
