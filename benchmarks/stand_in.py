"""The two stand-in engines behind every peer: `shoal_serving.simulator`, open or as replicas that want a hello."""

import json
import secrets
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.request import Request, urlopen

import placement
from measured_process import MeasuredProcess, answers
from peers import MODEL
from shoal_api import proof
from shoal_api.replica_config import ReplicaConfig
from shoal_api.routes import Endpoint, ModelRoute, RouteDocument
from shoal_api.routing import Continuation, Queue, Routing

_MODEL_UID = "00000000-0000-4000-8000-00000000bec5"
_START_SECONDS = 20
_IN_FLIGHT = 65_536
"""No peer bounds what an engine holds, so none may here."""

_ALWAYS = {"keep-alive-seconds": 0, "max-running": _IN_FLIGHT, "max-model-len": 1_000_000}


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast an engine answers."""

    first_token_seconds: float
    gap_seconds: float
    answer_tokens: int

    @property
    def seconds(self) -> float:
        """How long one answer takes."""
        return self.first_token_seconds + self.gap_seconds * (self.answer_tokens - 1)

    @property
    def knobs(self) -> dict[str, float]:
        return {
            "first-token-seconds": self.first_token_seconds,
            "gap-seconds": self.gap_seconds,
            "answer-tokens": self.answer_tokens,
        }


class StandIn:
    """One engine process."""

    def __init__(self, port: int, folder: Path, core: int, *, master_key: bytes | None) -> None:
        self.port = port
        self.uid = f"00000000-0000-4000-8000-{port:012d}"
        self.name = f"engine-{port}"
        self._key = None if master_key is None else proof.model_key(master_key, _MODEL_UID)
        words = [sys.executable, "-m", "shoal_serving.simulator"]
        if self._key is None:
            words += ["--open", "--listen", self.address, "--model", MODEL]
        else:
            words += ["--config", str(self._write_config(folder))]
        for knob, value in _ALWAYS.items():
            words += ["--simulate", f"{knob}={value}"]
        self.words = words
        self.process = MeasuredProcess(placement.pinned(words, core), folder / f"{self.name}.log")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _write_config(self, folder: Path) -> Path:
        assert self._key is not None  # noqa: S101  (only called with one)
        home = folder / self.name
        home.mkdir(parents=True, exist_ok=True)
        (home / "model.key").write_text(self._key.hex())
        (home / "ray.token").write_text(secrets.token_hex(16))
        config = ReplicaConfig(
            model=f"default/{MODEL}",
            replica=self.name,
            replica_uid=self.uid,
            revision="1",
            served_name=MODEL,
            source=MODEL,
            host="127.0.0.1",
            port=self.port,
            model_key_file=home / "model.key",
            ray_token_file=home / "ray.token",
            directory=home,
            termination_message=home / "last-words",
        )
        path = home / "replica.json"
        path.write_text(config.model_dump_json(by_alias=True))
        return path

    def wait_until_ready(self) -> None:
        self.process.wait_until(lambda: answers(f"http://{self.address}/health"), _START_SECONDS)

    def turn(self, pace: Pace) -> None:
        headers = {"content-type": "application/json"}
        if self._key is not None:
            nonce = secrets.token_hex(proof.NONCE_CHARACTERS // 2)
            headers[proof.MAC_HEADER] = proof.request_mac(self._key, nonce, self.uid)
        url = f"http://{self.address}/simulator/knobs"
        request = Request(url, json.dumps(pace.knobs).encode(), headers)
        with urlopen(request, timeout=5) as answer:  # noqa: S310
            answer.read()


def route_document(engines: list[StandIn], continuation: Continuation = Continuation.OFF) -> str:
    """What a Shoal gateway is told: one model on these engines."""
    route = ModelRoute(
        namespace="default",
        name=MODEL,
        uid=_MODEL_UID,
        created=datetime(2026, 1, 1, tzinfo=UTC),
        served_name=MODEL,
        names=[MODEL],
        revision="1",
        routing=Routing(continuation=continuation),
        queue=Queue(max_in_flight_per_replica=_IN_FLIGHT, max_waiting=1_000_000),
        endpoints=[
            Endpoint(replica=engine.name, uid=engine.uid, host="127.0.0.1", port=engine.port, revision="1")
            for engine in engines
        ],
    )
    return RouteDocument(models=[route]).model_dump_json(by_alias=True)
