"""With real vLLM: the engine that streams is killed, and every stream still says what it would have said.

Needs SHOAL_TEST_MODELS (made by examples/quickstart/make_models.py) and SHOAL_ENGINE_PYTHON; `make e2e` sets both.
One kill cuts the streams of one of two replicas, each at another place; at night kills go on until 20 streams were cut,
with the plainer of two tokenizers, too, and a whole house of `shoal up` loses an engine as well.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import openai
import psutil
import pytest
import yaml

from fake_engine import MASTER_KEY
from gateway_process import CREATED, a_gateway
from held_ports import a_port
from one_machine_up import told
from shoal_api import proof
from shoal_api.replica_config import ReplicaConfig
from shoal_api.routes import Endpoint, ModelRoute

ROOT = Path(__file__).parents[2]
MODELS = Path(os.environ["SHOAL_TEST_MODELS"])
ENGINE_PYTHON = os.environ["SHOAL_ENGINE_PYTHON"]
READY_WITHIN = 600.0
STREAMS = 10
TOKENS = 400
MANY_TOKENS = 1500
"""In a house the client, the gateway and two engines share the cores: streams that last long enough for a kill."""


class Replicas(Protocol):
    """Two replicas of one model behind a gateway."""

    url: str

    def until_ready(self) -> None:
        """Both answer, whatever was killed before."""

    def kill(self, turn: int) -> None:
        """By SIGKILL, in turn: the engine core, whose death vLLM tells by an error event; and the process that serves,
        whose death a reset connection tells."""

    def log(self) -> str:
        """The gateway's."""


class BareReplicas:
    """Without Ray and operator: only what takes part in a continuation, so that a new engine takes seconds."""

    def __init__(self, folder: Path, model: str, stack: contextlib.ExitStack) -> None:
        self.folder, self.model = folder, model
        self.key = folder / "model-key"
        self.key.write_text(proof.model_key(MASTER_KEY, "uid-m").hex())
        environment = os.environ | {
            "PYTHONPATH": f"{ROOT / 'crds'}:{ROOT / 'serving'}",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        out = stack.enter_context((folder / "replicas.log").open("w"))
        self.process = subprocess.Popen(
            [ENGINE_PYTHON, str(Path(__file__).with_name("bare_replicas.py"))],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            text=True,
            start_new_session=True,
        )
        stack.callback(self.end)
        self.running = [self.start(number) for number in range(2)]
        self.routed: list[ReplicaConfig] = []
        self.gateway = stack.enter_context(a_gateway(folder))
        self.url = f"http://127.0.0.1:{self.gateway.port}/v1"

    def start(self, number: int) -> ReplicaConfig:
        port = a_port()
        directory = self.folder / f"r{number}-{port}"
        directory.mkdir()
        config = ReplicaConfig(
            model="default/m",
            replica=f"r{number}",
            replica_uid=f"uid-{number}-{port}",
            revision="a",
            served_name="m",
            source=str(MODELS / self.model),
            args=["--dtype", "float32"],
            host="127.0.0.1",
            port=port,
            model_key_file=self.key,
            ray_token_file=self.key,
            directory=directory,
        )
        assert self.process.stdin is not None
        self.process.stdin.write(config.model_dump_json(by_alias=True) + "\n")
        self.process.stdin.flush()
        return config

    def pids(self, config: ReplicaConfig) -> list[int]:
        file = config.directory / "pids.json"
        return [int(pid) for pid in json.loads(file.read_text())] if file.exists() else []

    def until_ready(self) -> None:
        until(lambda: all(map(self.pids, self.running)), READY_WITHIN, f"both replicas are ready, {self.folder}")
        if self.running == self.routed:
            return
        self.routed = list(self.running)
        endpoints = [
            Endpoint(replica=one.replica, uid=one.replica_uid, host=one.host, port=one.port, revision=one.revision)
            for one in self.running
        ]
        names = {"namespace": "default", "name": "m", "uid": "uid-m", "served_name": "m", "names": ["m"]}
        self.gateway.put(ModelRoute(**names, created=CREATED, endpoints=endpoints))

    def kill(self, turn: int) -> None:
        serving, core = self.pids(self.running[turn % 2])
        for pid in (core, serving) if turn % 2 == 0 else (serving, core):
            os.kill(pid, signal.SIGKILL)
            time.sleep(0.5)  # the gateway learns of the death from the one that was meant
        self.running[turn % 2] = self.start(turn % 2)

    def log(self) -> str:
        return self.gateway.log()

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


class House:
    """All of it: one running `shoal up` with two replicas."""

    def __init__(self, folder: Path, model: str) -> None:
        self.kills = 0
        self.victims: list[psutil.Process] = []
        """Whom a kill is meant for, by its turn; to look for them takes longer than some streams run."""
        port = a_port()
        listen = f"127.0.0.1:{port}"
        self.url = f"http://{listen}/v1"
        spec = {
            "model": {"source": f"file://{MODELS / model}", "names": ["m"]},
            "engine": {"args": ["--dtype", "float32"]},
            "resources": {"gpu": 0},
            "replicas": 2,
        }
        manifest = {"apiVersion": "shoal.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "m"}}
        file = folder / "models.yaml"
        file.write_text(yaml.safe_dump(manifest | {"spec": spec}))
        home = folder / "home"
        self.gateway_log = home / "run" / str(port) / "logs" / "gateway.log"
        self.environment = os.environ | {"SHOAL_HOME": str(home), "XDG_RUNTIME_DIR": str(folder / "run")}
        self.output = folder / "up.log"
        self._out = self.output.open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "shoal_operator", "up", "-f", str(file), "--listen", listen],
            env=self.environment,
            stdout=self._out,
            stderr=subprocess.STDOUT,
        )

    def replicas(self) -> list[dict[str, Any]]:
        return [dict(replica) for replica in told(self.environment)["models"][0]["replicas"]]

    def until_ready(self) -> None:
        def ready() -> bool:
            said = self.output.read_text()
            assert self.process.poll() is None, said
            if "all models are ready" not in said:
                return False
            seen = self.replicas()
            restarts = sum(replica["restarts"] for replica in seen)
            if restarts < self.kills or [replica["state"] for replica in seen] != ["Ready", "Ready"]:
                return False
            self.victims = [
                below(replica["pid"], name)
                for replica, name in zip(seen, ("VLLM::EngineCore", "ServeReplica"), strict=True)
            ]
            return True

        until(ready, READY_WITHIN, "both replicas are ready")

    def kill(self, turn: int) -> None:
        self.victims[turn % 2].send_signal(signal.SIGKILL)
        self.kills += 1

    def log(self) -> str:
        return self.gateway_log.read_text()

    def end(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)
        self._out.close()


def below(pid: int, name: str) -> psutil.Process:
    """The process of this name that another one started, itself or by others."""
    for process in psutil.Process(pid).children(recursive=True):
        if name in " ".join([process.name(), *process.cmdline()]):
            return process
    raise AssertionError(f"no {name} runs below {pid}")


def until(fact: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.2)


@dataclass
class Stream:
    """What one stream said; `tokens`, which counts its events with text, is not compared."""

    text: str = ""
    finish: str | None = None
    usage: tuple[int, int, int] | None = None
    tokens: int = field(default=0, compare=False)

    async def listen(self, client: openai.AsyncOpenAI, number: int, most: int) -> "Stream":
        """Odd numbers chat, even ones complete. The penalty keeps the tiny models' noise from running in circles."""
        options: Any = {"max_tokens": most, "temperature": 0, "stream": True, "model": "m"}
        options |= {"stream_options": {"include_usage": True}, "extra_body": {"repetition_penalty": 1.3}}
        prompt = f"Tell number {number} a story"
        events: Any
        if number % 2:
            messages: Any = [{"role": "user", "content": prompt}]
            events = await client.chat.completions.create(messages=messages, **options)
        else:
            events = await client.completions.create(prompt=prompt, **options)
        async for event in events:
            for choice in event.choices:
                text = choice.delta.content if number % 2 else choice.text
                self.text += text or ""
                self.finish = choice.finish_reason or self.finish
                self.tokens += bool(text)
            if event.usage:
                self.usage = (event.usage.prompt_tokens, event.usage.completion_tokens, event.usage.total_tokens)
        return self

    async def reaches(self, tokens: int, running: asyncio.Task["Stream"]) -> None:
        while self.tokens < tokens and not running.done():  # noqa: ASYNC110  (it need not know who waits for it)
            await asyncio.sleep(0.002)


async def cut_some(
    client: openai.AsyncOpenAI, replicas: Replicas, turn: int, drawn: random.Random, most: int
) -> list[Stream]:
    """All streams, of which some lost their replica; they begin one after the other, so that each is cut elsewhere."""
    streams = [Stream() for _ in range(STREAMS)]
    running = []
    for number, stream in enumerate(streams):
        running.append(asyncio.create_task(stream.listen(client, number, most)))
        if number < STREAMS - 1:
            await stream.reaches(drawn.randrange(1, 12), running[-1])
    await streams[-1].reaches(drawn.randrange(1, 40), running[-1])
    await asyncio.to_thread(replicas.kill, turn)
    return await asyncio.gather(*running)


def continued(replicas: Replicas) -> list[tuple[int, int]]:
    """Of every stream that went on: the tokens that were there, and how many of them were made again."""
    found = re.findall(r"reason=Continued because=(\d+) tokens were there, (\d+) of them", replicas.log())
    return [(int(there), int(again)) for there, again in found]


async def kill_until(replicas: Replicas, cuts: int, most: int = TOKENS) -> list[tuple[int, int]]:
    """Kill and compare until so many streams, of `most` tokens each, were cut."""
    drawn = random.Random(cuts)  # noqa: S311
    await asyncio.to_thread(replicas.until_ready)
    turn = 0
    async with openai.AsyncOpenAI(base_url=replicas.url, api_key="any", max_retries=0) as client:
        unbroken = await asyncio.gather(*(Stream().listen(client, number, most) for number in range(STREAMS)))
        assert all((stream.finish, stream.usage and stream.usage[1]) == ("length", most) for stream in unbroken)
        assert all(len(stream.text) > most / 4 for stream in unbroken)
        while len(continued(replicas)) < cuts:
            assert turn < cuts + 4, "too few streams are cut by a kill"
            await asyncio.to_thread(replicas.until_ready)
            again = await cut_some(client, replicas, turn, drawn, most)
            assert again == unbroken, f"kill {turn}, {continued(replicas)}"
            turn += 1
    print(f"{turn} kills cut {len(continued(replicas))} streams; tokens that were there, and of them made again:")
    print(continued(replicas))
    return continued(replicas)


@pytest.mark.parametrize(
    ("model", "cuts"),
    [
        ("multi-byte-llama", 2),
        pytest.param("multi-byte-llama", 20, marks=pytest.mark.nightly),
        pytest.param("tiny-llama", 20, marks=pytest.mark.nightly),
    ],
)
def test_a_killed_engine_is_not_seen_by_any_stream(tmp_path: Path, model: str, cuts: int) -> None:
    with contextlib.ExitStack() as stack:
        made_again = [again for _, again in asyncio.run(kill_until(BareReplicas(tmp_path, model, stack), cuts))]
    if model == "tiny-llama":
        assert set(made_again) == {0}
    elif cuts == 20:
        assert any(made_again), "no cut fell inside a character"


@pytest.mark.nightly
def test_nor_by_the_streams_of_a_whole_house(tmp_path: Path) -> None:
    house = House(tmp_path, "multi-byte-llama")
    try:
        asyncio.run(kill_until(house, 2, MANY_TOKENS))
    finally:
        house.end()
