"""The clients that people use, each in its own environment, against a gateway before real vLLM.

Needs SHOAL_ENGINE_PYTHON and SHOAL_TEST_MODELS; `make e2e` sets both. What an engine does not do on command (500, a
cut, silence) a simulated replica does, behind the same gateway.
"""

import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

import openai
import psutil
import pytest
import yaml

from client_environments import node_folder, python_of
from facts import until
from fake_engine import MASTER_KEY
from fleet import a_fleet, a_route_to
from gateway_process import Gateway, a_gateway, a_route
from held_ports import a_port
from shoal_api import keys, proof
from shoal_api.replica_config import REPORT_FILE, ReplicaConfig
from shoal_api.routes import Endpoint, ModelRoute

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
READY_WITHIN = 300.0
CHAT, EMBED, FAULTY = "tiny-llama", "all-minilm-l6-v2", "m"
KEY, LIMITED_KEY = "sk-for-everything", "sk-for-the-embedder"

ERRORS = [f"error_{status}" for status in (400, 401, 403, 404, 413, 422, 429, 500, 503, 504)] + ["error_in_the_stream"]
OPENAI = ["lists", "chats", "streams", "completes_text", "embeds", "responds", "responds_in_a_stream", *ERRORS]
STEPS = {
    "openai": [*OPENAI, "error_in_a_stream_of_responses", "a_retry_is_told_and_made"],
    "openai, the version before": [
        *OPENAI,
        "error_in_a_stream_of_responses",
        "opens_a_realtime_session",
        "a_retry_is_told_and_made",
    ],
    "openai for Node": OPENAI,
    "anthropic": ["lists", "chats", "streams", "counts_tokens", *ERRORS],
    "langchain-openai": ["chats", "streams", "embeds", "responds", *ERRORS],
    "litellm": ["chats", "streams", "embeds", "responds", "messages", *ERRORS],
}


class RealReplica:
    """The replica program with real vLLM."""

    def __init__(self, home: Path, model: str, args: list[str]) -> None:
        home.mkdir()
        self.home, self.model, self.uid = home, model, f"uid-{model}-0"
        self.port = a_port()
        (home / "key").write_text(proof.model_key(MASTER_KEY, f"uid-{model}").hex())
        (home / "token").write_text(secrets.token_hex(16))
        config = ReplicaConfig(
            model=f"default/{model}",
            replica=f"{model}-0",
            replica_uid=self.uid,
            revision="r1",
            served_name=model,
            source=str(Path(os.environ["SHOAL_TEST_MODELS"]) / model),
            args=args,
            host="127.0.0.1",
            port=self.port,
            drain_seconds=30,
            settle_seconds=1,
            model_key_file=home / "key",
            ray_token_file=home / "token",
            directory=home / "work",
            termination_message=home / "last-words",
        )
        (home / "config.json").write_text(config.model_dump_json(by_alias=True))
        with (home / "output").open("wb") as output:
            python, config_file = os.environ["SHOAL_ENGINE_PYTHON"], home / "config.json"
            self.process = subprocess.Popen(
                [python, "-m", "shoal_serving.replica", "--config", config_file, "--end-with-parent"],
                env={**os.environ, "PYTHONPATH": f"{ROOT / 'crds'}:{ROOT / 'serving'}"},
                stdout=output,
                stderr=output,
                cwd=home,
            )

    def ready(self) -> None:
        report = self.home / "work" / REPORT_FILE
        deadline = time.monotonic() + READY_WITHIN
        while not report.exists() or '"Ready"' not in report.read_text():
            assert self.process.poll() is None, (self.home / "output").read_text()[-3000:]
            assert time.monotonic() < deadline, "not ready in time"
            time.sleep(0.2)

    def route(self) -> ModelRoute:
        endpoint = Endpoint(replica=f"{self.model}-0", uid=self.uid, host="127.0.0.1", port=self.port)
        route = a_route(name=self.model, model_uid=f"uid-{self.model}")
        return route.model_copy(update={"endpoints": [endpoint]})

    def running(self) -> float:
        """Requests that run, by vLLM's own metrics."""
        return self._metric("vllm:num_requests_running")

    def finished(self) -> float:
        """Requests that came to their end; vLLM counts none that it aborted for want of a client."""
        return self._metric("vllm:request_success_total")

    def _metric(self, name: str) -> float:
        mac = proof.request_mac(proof.model_key(MASTER_KEY, f"uid-{self.model}"), secrets.token_hex(16), self.uid)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request("GET", "/metrics", headers={proof.MAC_HEADER: mac})
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        assert answer.status == 200, text
        rows = [line for line in text.splitlines() if line.startswith(name + "{")]
        return sum(float(row.rsplit(" ", 1)[1]) for row in rows)

    def end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Place:
    """The gateway with its models, and what a client's story is told of it."""

    def __init__(self, gateway: Gateway, replica: RealReplica) -> None:
        self.gateway = gateway
        self.replica = replica
        self.url = f"http://127.0.0.1:{gateway.port}"
        self.told: dict[str, str] = {
            "url": self.url,
            "key": KEY,
            "limited_key": LIMITED_KEY,
            "wrong_key": "sk-nobody",
            "chat": CHAT,
            "embed": EMBED,
            "faulty": FAULTY,
            "full": "full",
            "empty": "empty",
        }


@contextmanager
def a_place(folder: Path) -> Iterator[Place]:
    rows = [("all", KEY, ["*"]), ("limited", LIMITED_KEY, [EMBED])]
    entries = [{"name": name, "sha256": keys.digest(key.encode()).hex(), "models": who} for name, key, who in rows]
    keys_file = folder / "keys.yaml"
    keys_file.write_text(yaml.safe_dump(entries))
    with ExitStack() as stack:
        replicas = []
        for model, args in ((CHAT, ["--dtype", "float32", "--max-model-len", "1024"]), (EMBED, [])):
            replicas.append(RealReplica(folder / model, model, args))
            stack.callback(replicas[-1].end)
        for replica in replicas:  # they start beside each other
            replica.ready()
        fleet = stack.enter_context(a_fleet(folder, "broken", **{"header-faults": "true"}))
        gateway = stack.enter_context(
            a_gateway(folder, f"--keys-file={keys_file}", "--max-body-bytes=1000000", "--access-log=off")
        )
        gateway.put(
            *(replica.route() for replica in replicas),
            # Each client waits for it once; a replica that answers must never take so long, whatever else runs.
            a_route_to(*fleet, timeouts={"firstByteSeconds": 4.0}),
            a_route(name="full", model_uid="uid-full", queue={"maxWaiting": 0}),
            a_route(name="empty", model_uid="uid-empty", queue={"maxWaitSeconds": 0.2}),
        )
        yield Place(gateway, replicas[0])
        assert "Traceback" not in gateway.log()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with a_place(tmp_path_factory.mktemp("place")) as running:
        yield running


def command(client: str) -> list[str | Path]:
    scripts = HERE / "clients"
    match client:
        case "openai":
            return [sys.executable, scripts / "openai_client.py"]
        case "openai for Node":
            if shutil.which("npm") is None:
                pytest.skip("there is no npm on this machine")
            return ["node", node_folder(HERE / "node") / "openai_client.mjs"]
        case "openai, the version before":
            return [python_of(HERE / "clients.txt"), scripts / "openai_client.py"]
        case _:
            return [python_of(HERE / "clients.txt"), scripts / f"{client.split('-')[0]}_client.py"]


@pytest.fixture(scope="module")
def story(place: Place) -> Callable[[str], dict[str, str]]:
    """Runs a client's whole story once; the fault of each step, empty where there is none."""

    @cache
    def run(client: str) -> dict[str, str]:
        environment = os.environ | {"SHOAL_STORY": json.dumps(place.told), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        ran = subprocess.run(command(client), env=environment, capture_output=True, text=True, timeout=600)
        lines = [json.loads(line.removeprefix("STEP ")) for line in ran.stdout.splitlines() if line.startswith("STEP ")]
        assert ran.returncode == 0, ran.stderr[-3000:]
        return {line["step"]: line["fault"] for line in lines}

    return run


@pytest.mark.parametrize(("client", "step"), [(client, step) for client, steps in STEPS.items() for step in steps])
def test_the_client_gets_what_it_expects(story: Callable[[str], dict[str, str]], client: str, step: str) -> None:
    assert story(client)[step] == ""


@pytest.mark.parametrize("client", STEPS)
def test_the_table_has_every_step_of_the_story(story: Callable[[str], dict[str, str]], client: str) -> None:
    assert set(story(client)) == set(STEPS[client])


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_is_an_abort_in_vllm(place: Place, stream: bool) -> None:
    finished = place.replica.finished()
    body = {"model": CHAT, "prompt": "Once", "max_tokens": 900, "ignore_eos": True, "stream": stream}
    content = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json"
    with socket.create_connection(("127.0.0.1", place.gateway.port)) as client:
        client.sendall(f"{head}\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content)
        until(lambda: place.replica.running() == 1)
        if stream:
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
    left = time.monotonic()
    until(lambda: place.replica.running() == 0)
    took = time.monotonic() - left
    print(f"stream {stream}: nothing runs in vLLM {took:.2f} s after the client left")

    assert place.replica.finished() == finished, "it was not aborted: it came to its end"
    until(lambda: place.gateway.load()["models"] == {})


def test_an_engine_that_is_killed_in_a_stream_raises_the_clients_error(place: Place) -> None:
    """The last story: the replica is gone afterwards."""
    (core,) = [
        process
        for process in psutil.Process(place.replica.process.pid).children(recursive=True)
        if "EngineCore" in process.name() + " ".join(process.cmdline())
    ]
    with openai.OpenAI(base_url=place.url + "/v1", api_key=KEY, max_retries=0) as client:
        stream = client.completions.create(
            model=CHAT, prompt="Once", max_tokens=900, stream=True, extra_body={"ignore_eos": True, "seed": 1}
        )
        next(iter(stream))
        core.send_signal(signal.SIGKILL)
        with pytest.raises(openai.APIError) as lost:
            list(stream)

    assert lost.value.code == "upstream_lost"
