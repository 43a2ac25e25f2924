"""`shoal up` with a load that decides: from zero at the first request, back to zero, and nobody lost in between."""

import http.client
import itertools
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from facts import DEADLINE_SECONDS, until
from one_machine_up import Up, a_file_model, up
from shoal_operator.supervised import HOST

QUICK = ["--simulate-gap-seconds", "0.01", "--simulate-answer-tokens", "20"]


def scaled(folder: Path, **rule: Any) -> dict[str, Any]:
    whole = {"minReplicas": 0, "maxReplicas": 3, "targetLoad": 2, "idleSeconds": 1, "scaleDownDelaySeconds": 1} | rule
    return a_file_model(folder, args=QUICK, scaling=whole)


def ask(running: Up, number: int) -> int:
    """The status of one chat; the connection is its own."""
    client = http.client.HTTPConnection(HOST, running.port, timeout=DEADLINE_SECONDS)
    question = {"model": "one", "messages": [{"role": "user", "content": f"number {number}"}]}
    try:
        client.request("POST", "/v1/chat/completions", json.dumps(question), {"content-type": "application/json"})
        answer = client.getresponse()
        answer.read()
        return answer.status
    finally:
        client.close()


def wanted(running: Up) -> int:
    report = running.report()
    return report.models[0].status.desired_replicas if report and report.models else -1


@contextmanager
def one_that_is_told_to_go(running: Up, numbers: Iterator[int]) -> Iterator[None]:
    """The last replica has been told to go and cannot, as long as the block lasts."""
    programs: list[psutil.Process] = []

    def is_told_and_there() -> bool:
        for program in programs:
            program.resume()
        programs.clear()
        assert ask(running, next(numbers)) == 200
        with suppress(psutil.NoSuchProcess):  # on a busy machine it may be gone by now
            for replica in running.replicas():
                if replica.pid is not None:
                    program = running.program_of(replica)
                    program.suspend()
                    programs.append(program)
        until(lambda: wanted(running) == 0, running.said)
        return running.replicas() != []

    try:
        until(is_told_and_there, running.said)
        yield
    finally:
        for program in programs:
            program.resume()


def test_a_crowd_wakes_as_many_as_it_needs_and_the_last_one_leaves_nothing(tmp_path: Path) -> None:
    with up(tmp_path, scaled(tmp_path, idleSeconds=2), flags="--simulator") as running:
        running.until_said("starts when somebody asks")
        assert running.replicas() == []
        statuses: list[int] = []
        crowd = [threading.Thread(target=lambda n=n: statuses.append(ask(running, n))) for n in range(12)]
        for one in crowd:
            one.start()
        for one in crowd:
            one.join()

        assert statuses == [200] * 12
        said = running.until_said("reason=Woken")
        assert "needs" in said
        assert "3 wanted" in said, "as many as the waiting need, capped at maxReplicas"
        running.until_said("reason=Idle")
        until(lambda: running.replicas() == [], running.said)
        assert ask(running, 12) == 200, "and back"


def test_a_request_that_meets_the_last_replica_on_its_way_out_is_not_lost(tmp_path: Path) -> None:
    with up(tmp_path, scaled(tmp_path), flags="--simulator") as running:
        running.until_said("starts when somebody asks")
        numbers = itertools.count()
        for _ in range(3):
            with ThreadPoolExecutor(1) as client, one_that_is_told_to_go(running, numbers):
                woken = running.said().count("reason=Woken")
                asked = client.submit(ask, running, next(numbers))
                until(lambda before=woken: running.said().count("reason=Woken") > before, running.said)
                assert running.replicas() != []
            assert asked.result() == 200
        log = running.home / "run" / str(running.port) / "logs" / "gateway.log"
        count = next(numbers)
        until(lambda: log.read_text().count("outcome=ok") == count)
        assert log.read_text().count("attempts=1 ") == count, "each went to an engine once"


def test_an_edit_of_the_bounds_acts_at_once_and_a_given_number_wins(tmp_path: Path) -> None:
    with up(tmp_path, scaled(tmp_path, minReplicas=1), flags="--simulator") as running:
        running.until_ready(1)
        running.write(scaled(tmp_path, minReplicas=2))
        running.until_ready(2)
        assert "reason=BoundsChanged" in running.said()
        running.write(scaled(tmp_path, minReplicas=2) | {"spec": scaled(tmp_path)["spec"] | {"replicas": 1}})
        running.until_ready(1)
        report = running.report()
        assert report is not None
        active = next(c for c in report.models[0].status.conditions if c.type == "ScalingActive")
        assert (active.status, active.reason) == ("False", "FixedReplicas")
