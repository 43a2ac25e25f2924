"""Simulated replicas behind a real gateway: programs of their own, with a control port that no fault reaches."""

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from facts import DEADLINE_SECONDS
from fake_engine import MASTER_KEY
from gateway_process import a_route
from held_ports import a_port
from shoal_api import proof
from shoal_api.replica_config import ReplicaConfig
from shoal_api.routes import Endpoint, ModelRoute

MODEL_UID = "uid-m"
_NONCE = "00112233445566778899aabbccddeeff"


class SimulatedReplica:
    """One program. After its death it can be started again at the same address."""

    def __init__(
        self, name: str, folder: Path, model_uid: str = MODEL_UID, served_name: str = "m", **knobs: object
    ) -> None:
        self.name = name
        self.uid = f"uid-{name}"
        self.port, self._control = a_port(), a_port()
        self._key = proof.model_key(MASTER_KEY, model_uid)
        folder = folder / name
        folder.mkdir()
        key_file = folder / "key"
        key_file.write_text(self._key.hex())
        config = ReplicaConfig(
            model="default/m",
            replica=name,
            replica_uid=self.uid,
            revision="r1",
            served_name=served_name,
            source="/nowhere",
            host="127.0.0.1",
            port=self.port,
            settle_seconds=0.1,
            drain_seconds=5,
            model_key_file=key_file,
            ray_token_file=folder / "token",
            directory=folder / "scratch",
            termination_message=folder / "termination",
        )
        file = folder / "config.json"
        file.write_text(config.model_dump_json(by_alias=True))
        self._command = [sys.executable, "-m", "shoal_serving.simulator", "--config", str(file)]
        self._command += ["--control", f"127.0.0.1:{self._control}"]
        self._command += [flag for name, value in knobs.items() for flag in ("--simulate", f"{name}={value}")]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not self._listens():
            assert self.process.poll() is None, f"the replica {self.name} ended with {self.process.returncode}"
            assert time.monotonic() < deadline, f"the replica {self.name} did not start"
            time.sleep(0.02)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def heal(self) -> None:
        """No fault, an empty log, and alive."""
        if not self._lives():
            self.stop()
            self.start()
        self._told("DELETE", "faults")
        self._told("DELETE", "log")

    def order(self, **fault: object) -> None:
        """A fault in force from now on."""
        self._told("POST", "faults", fault)

    def turn(self, **knobs: object) -> None:
        self._told("POST", "knobs", knobs)

    def log(self) -> list[dict[str, Any]]:
        """What arrived since the last look; empty where the program is dead and took its log along."""
        try:
            return list(self._told("GET", "log"))
        except OSError:
            return []

    def state(self) -> dict[str, Any]:
        return dict(self._told("GET", "state"))

    def endpoint(self) -> Endpoint:
        return Endpoint(replica=self.name, uid=self.uid, host="127.0.0.1", port=self.port)

    def _lives(self) -> bool:
        with contextlib.suppress(OSError):
            return not self.state()["engineIsDead"]
        return False

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), DEADLINE_SECONDS):
            return bool(self.state()["ready"])
        return False

    def _told(self, method: str, what: str, body: object = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._control, timeout=DEADLINE_SECONDS)
        mac = proof.request_mac(self._key, _NONCE, self.uid)
        try:
            connection.request(
                method, f"/simulator/{what}", None if body is None else json.dumps(body), {proof.MAC_HEADER: mac}
            )
            answer = connection.getresponse()
            found = json.loads(answer.read())
        finally:
            connection.close()
        assert answer.status == 200, found
        return found


@contextlib.contextmanager
def a_fleet(folder: Path, *names: str, **knobs: object) -> Iterator[list[SimulatedReplica]]:
    replicas = [SimulatedReplica(name, folder, **knobs) for name in names]
    try:
        for replica in replicas:
            replica.start()
        yield replicas
    finally:
        for replica in replicas:
            replica.stop()


def a_route_to(*replicas: SimulatedReplica, **fields: Any) -> ModelRoute:
    return a_route(**fields).model_copy(update={"endpoints": [replica.endpoint() for replica in replicas]})
