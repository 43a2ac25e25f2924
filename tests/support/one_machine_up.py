"""A real `shoal up` as a child process, with the stand-in replica in place of the engine's interpreter."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

from builders import a_manifest
from facts import DEADLINE_SECONDS, until
from held_ports import a_port, own_range
from shoal_operator.status_report import ReplicaReport, UpReport
from shoal_operator.supervised import HOST

COMMAND = [sys.executable, "-m", "shoal_operator"]


def told(environment: Mapping[str, str]) -> dict[str, Any]:
    """What `shoal status --json` tells of the only one that runs."""
    answer = subprocess.run([*COMMAND, "status", "--json"], env=environment, capture_output=True, text=True)
    (report,) = json.loads(answer.stdout)["running"]
    return dict(report)


def a_file_model(folder: Path, name: str = "one", args: list[str] | None = None, **spec: Any) -> dict[str, Any]:
    """A manifest whose model is a folder that exists."""
    whole = {
        "model": {"source": f"file://{folder}"},
        "resources": {"gpu": 0},
        "engine": {"args": args or []},
        "rollout": {"drainSeconds": 5},
    }
    return a_manifest(name, **(whole | spec))


class Up:
    """One `shoal up`."""

    def __init__(
        self,
        folder: Path,
        *manifests: dict[str, Any],
        engine: bool = True,
        port: int | None = None,
        flags: str = "",
        ports: range | None = None,
    ) -> None:
        self.folder = folder
        self.port = port or a_port()
        self.file = folder / "models.yaml"
        self.home = folder / "home"
        self.log = folder / "up.log"
        self._seen: dict[int, psutil.Process] = {}
        if manifests:
            self.write(*manifests)
        program = folder / "engine"
        standin = Path(__file__).with_name("standin_replica.py")
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {standin} --config "$4"\n')  # -m MODULE --config FILE
        program.chmod(0o700)
        scratch = folder / "scratch"
        scratch.mkdir(exist_ok=True)
        ports = ports or own_range()
        self.environment = os.environ | {
            "TMPDIR": str(scratch),
            "SHOAL_HOME": str(self.home),
            "SHOAL_REPLICA_PORTS": f"{ports.start}-{ports.stop - 1}",
        }
        if engine:
            self.environment["SHOAL_ENGINE_PYTHON"] = str(program)
        arguments = ["up", "-f", str(self.file), "--listen", f"{HOST}:{self.port}", *flags.split()]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*COMMAND, *arguments], env=self.environment, stdout=log, stderr=subprocess.STDOUT, cwd=folder
            )

    def write(self, *manifests: dict[str, Any]) -> None:
        """Replace the manifests in the file."""
        self.file.write_text(yaml.safe_dump_all(manifests))

    def said(self) -> str:
        return self.log.read_text()

    def report(self) -> UpReport | None:
        """What it tells about itself just now."""
        self.processes()
        try:
            return UpReport.model_validate_json((self.home / "run" / str(self.port) / "status.json").read_text())
        except FileNotFoundError:
            return None

    def replicas(self, model: str = "one") -> list[ReplicaReport]:
        report = self.report()
        return [r for m in report.models if m.id == f"default/{model}" for r in m.replicas] if report else []

    def until_ready(self, count: int = 1, model: str = "one") -> list[ReplicaReport]:
        """The replicas, once exactly so many are there and all are ready behind a ready gateway."""

        def ready() -> list[ReplicaReport] | None:
            report, found = self.report(), self.replicas(model)
            good = report is not None and report.gateway.ready and len(found) == count
            return found if good and all(r.state == "Ready" for r in found) else None

        return until(ready, self.said)

    def until_said(self, text: str) -> str:
        return until(lambda: self.said() if text in self.said() else None, self.said)

    def processes(self) -> list[psutil.Process]:
        """Everything below it now; remembered, to be asked for at the end."""
        try:
            found = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        self._seen |= {process.pid: process for process in found}
        return found

    def program_of(self, replica: ReplicaReport) -> psutil.Process:
        """The replica program itself; its parent is its keeper."""
        assert replica.pid is not None
        program = psutil.Process(replica.pid)
        self._seen[program.pid] = program
        return program

    def until_nothing_is_left(self) -> None:
        """No process that was ever seen below it, and nobody on its port."""

        def alive() -> list[psutil.Process]:
            return [process for process in self._seen.values() if _is_alive(process)]

        until(lambda: not alive(), lambda: f"{alive()}\n{self.said()}")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, self.port))

    def end(self, number: int = signal.SIGINT) -> int:
        """Tell it to stop, and wait for that; its exit status."""
        self.processes()
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_SECONDS)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def up(
    folder: Path,
    *manifests: dict[str, Any],
    engine: bool = True,
    port: int | None = None,
    flags: str = "",
    ports: range | None = None,
) -> Iterator[Up]:
    """A `shoal up` that is gone at the end, whatever the test found."""
    running = Up(folder, *manifests, engine=engine, port=port, flags=flags, ports=ports)
    try:
        yield running
    finally:
        running.processes()
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()
        running.until_nothing_is_left()
