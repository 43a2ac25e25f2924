"""With real vLLM: the engine that streams is killed, and every stream still says what it would have said.

Needs SHOAL_TEST_MODELS (made by examples/quickstart/make_models.py) and SHOAL_ENGINE_PYTHON; `make e2e` sets both.
One kill cuts the streams of one of two replicas, each at another place; at night kills go on until 20 streams were cut.
"""

import asyncio
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
import yaml

MODELS = Path(os.environ["SHOAL_TEST_MODELS"])
READY_WITHIN = 600.0
STREAMS = 10
TOKENS = 300
VICTIMS = ("VLLM::EngineCore", "ServeReplica")
"""Killed in turn: the death of the first is told by an error event, that of the second by a reset connection."""


class House:
    """One running `shoal up` with two replicas."""

    def __init__(self, folder: Path, model: str) -> None:
        self.kills = 0
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        spec = {
            "model": {"source": f"file://{MODELS / model}", "names": ["m"]},
            "engine": {"args": ["--dtype", "float32"]},
            "resources": {"gpu": 0},
            "replicas": 2,
        }
        manifest = {"apiVersion": "shoal.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "m"}}
        file = folder / "models.yaml"
        file.write_text(yaml.safe_dump(manifest | {"spec": spec}))
        self.environment = os.environ | {"SHOAL_HOME": str(folder / "home"), "XDG_RUNTIME_DIR": str(folder / "run")}
        self.log = folder / "up.log"
        self._out = self.log.open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "shoal_operator", "up", "-f", str(file), "--listen", f"127.0.0.1:{self.port}"],
            env=self.environment,
            stdout=self._out,
            stderr=subprocess.STDOUT,
        )
        self.client = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key="any", max_retries=0)

    def replicas(self) -> list[dict[str, Any]]:
        told = subprocess.run(
            [sys.executable, "-m", "shoal_operator", "status", "--json"],
            env=self.environment,
            capture_output=True,
            text=True,
        )
        (report,) = json.loads(told.stdout)["running"]
        return [dict(replica) for replica in report["models"][0]["replicas"]]

    def until_ready(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            if "all models are ready" not in self.log.read_text():
                return False
            replicas = self.replicas()
            restarts = sum(replica["restarts"] for replica in replicas)
            return restarts >= self.kills and [replica["state"] for replica in replicas] == ["Ready", "Ready"]

        until(ready, READY_WITHIN, "both replicas are ready")

    def kill(self, replica: dict[str, Any], victim: str) -> None:
        for process in psutil.Process(replica["pid"]).children(recursive=True):
            if victim in " ".join([process.name(), *process.cmdline()]):
                process.send_signal(signal.SIGKILL)
                self.kills += 1
                return
        raise AssertionError(f"{victim} runs nowhere below {replica}")

    def continued(self) -> list[tuple[int, int]]:
        """Of every stream that went on: tokens that were there, and how many of them were made again."""
        found = re.findall(r"reason=Continued because=(\d+) tokens were there, (\d+) of them", self.log.read_text())
        return [(int(there), int(again)) for there, again in found]

    def end(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)
        self._out.close()


def until(fact: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.2)


@pytest.fixture(scope="module", params=["tiny-llama", "multi-byte-llama"])
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    running = House(tmp_path_factory.mktemp("house"), request.param)
    try:
        running.until_ready()
        yield running
    finally:
        running.end()


@dataclass
class Stream:
    """What one stream said; `tokens`, which counts its events with text, is not compared."""

    text: str = ""
    finish: str | None = None
    usage: tuple[int, int, int] | None = None
    tokens: int = field(default=0, compare=False)

    async def listen(self, house: House, number: int) -> "Stream":
        """Odd numbers chat, even ones complete. The penalty keeps the tiny models' noise from running in circles."""
        options: Any = {"max_tokens": TOKENS, "temperature": 0, "stream": True, "model": "m"}
        options |= {"stream_options": {"include_usage": True}, "extra_body": {"repetition_penalty": 1.3}}
        prompt = f"Tell number {number} a story"
        events: Any
        if number % 2:
            messages: Any = [{"role": "user", "content": prompt}]
            events = await house.client.chat.completions.create(messages=messages, **options)
        else:
            events = await house.client.completions.create(prompt=prompt, **options)
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


async def cut_some(house: House, victim: str, drawn: random.Random, kill: int) -> list[Stream]:
    """All streams, of which some lost their replica; they begin one after the other, so that each is cut elsewhere."""
    streams = [Stream() for _ in range(STREAMS)]
    running = []
    for number, stream in enumerate(streams):
        running.append(asyncio.create_task(stream.listen(house, number)))
        if number < STREAMS - 1:
            await stream.reaches(drawn.randrange(1, 12), running[-1])
    await streams[-1].reaches(drawn.randrange(1, 40), running[-1])
    replicas = await asyncio.to_thread(house.replicas)
    await asyncio.to_thread(house.kill, replicas[kill % 2], victim)
    return await asyncio.gather(*running)


@pytest.mark.parametrize("cuts", [2, pytest.param(20, marks=pytest.mark.nightly)])
def test_a_killed_engine_is_not_seen_by_any_stream(house: House, cuts: int) -> None:
    drawn = random.Random(cuts)  # noqa: S311

    async def story() -> None:
        unbroken = await asyncio.gather(*(Stream().listen(house, number) for number in range(STREAMS)))
        assert all((stream.finish, stream.usage and stream.usage[1]) == ("length", TOKENS) for stream in unbroken)
        before, kill = len(house.continued()), 0
        while len(house.continued()) < before + cuts:
            await asyncio.to_thread(house.until_ready)
            assert kill < cuts, "no kill cut two streams"
            again = await cut_some(house, VICTIMS[kill % 2], drawn, kill)
            assert again == unbroken, f"kill {kill}, {house.continued()}"
            kill += 1
        print(f"{kill} kills; tokens that were there, and of them made again: {house.continued()[before:]}")

    asyncio.run(story())
