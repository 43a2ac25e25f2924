"""With real vLLM: the engine of the replica that streams is killed, and every stream still says what it would have.

Needs SHOAL_TEST_MODELS (made by examples/quickstart/make_models.py) and SHOAL_ENGINE_PYTHON; `make e2e` sets both.
SHOAL_TEST_KILLS (default 4) engines are killed, with SHOAL_TEST_STREAMS (default 6) streams running at each kill.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
import yaml

MODELS = Path(os.environ["SHOAL_TEST_MODELS"])
KILLS = int(os.environ.get("SHOAL_TEST_KILLS", "4"))
STREAMS = int(os.environ.get("SHOAL_TEST_STREAMS", "6"))
MODEL = os.environ.get("SHOAL_TEST_CONTINUATION_MODEL", "tiny-llama")
READY_WITHIN = 300.0
TOKENS = 400


class House:
    """One running `shoal up` with two replicas."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        spec = {
            "model": {"source": f"file://{MODELS / MODEL}", "names": ["m"]},
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
            return [replica["state"] for replica in self.replicas()] == ["Ready", "Ready"]

        until(ready, READY_WITHIN, "both replicas are ready")

    def kill_engine_core(self, replica: dict[str, Any]) -> None:
        program = psutil.Process(replica["pid"])
        (core,) = [
            process
            for process in program.children(recursive=True)
            if re.search("VLLM::EngineCore", " ".join(process.cmdline()) + " " + process.name())
        ]
        core.send_signal(signal.SIGKILL)

    def end(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)
        self._out.close()


def until(fact: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    running = House(tmp_path_factory.mktemp("house"))
    try:
        running.until_ready()
        yield running
    finally:
        running.end()


@dataclass
class Stream:
    """What one stream said."""

    text: str = ""
    finish: str | None = None
    usage: tuple[int, int, int] | None = None


async def listen(house: House, number: int, on_token: Callable[[int], None] = lambda _: None) -> Stream:
    """Odd numbers chat, even ones complete; `on_token` hears how many events with text there were."""
    heard, count = Stream(), 0
    options: Any = {"max_tokens": TOKENS, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
    prompt = f"Tell number {number} a story"
    events: Any
    if number % 2:
        events = await house.client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": prompt}], **options
        )
    else:
        events = await house.client.completions.create(model="m", prompt=prompt, **options)
    async for event in events:
        for choice in event.choices:
            text = choice.delta.content if number % 2 else choice.text
            heard.text += text or ""
            heard.finish = choice.finish_reason or heard.finish
            count += bool(text)
            on_token(count)
        if event.usage:
            heard.usage = (event.usage.prompt_tokens, event.usage.completion_tokens, event.usage.total_tokens)
    return heard


def test_a_killed_engine_is_not_seen_by_any_stream(house: House) -> None:
    drawn = random.Random(20260101)  # noqa: S311

    async def story() -> tuple[int, int]:
        unbroken = [await listen(house, number) for number in range(STREAMS)]
        assert all(stream.finish == "length" and stream.usage for stream in unbroken)
        cut = 0
        for kill in range(KILLS):
            victim = (await asyncio.to_thread(house.replicas))[kill % 2]
            at, reached = drawn.randrange(5, TOKENS - 60), asyncio.Event()

            def count(tokens: int, at: int = at, reached: asyncio.Event = reached) -> None:
                if tokens >= at:
                    reached.set()

            # They begin one after the other, so that the kill finds each at another place.
            running = []
            for number in range(STREAMS):
                running.append(asyncio.create_task(listen(house, number, count)))
                await asyncio.sleep(drawn.random() * 0.1)
            await reached.wait()
            await asyncio.to_thread(house.kill_engine_core, victim)
            again = await asyncio.gather(*running)
            assert again == unbroken, f"kill {kill} at {at} tokens"
            cut = house.log.read_text().count("reason=Continued")
            await asyncio.to_thread(house.until_ready)
        return cut, KILLS * STREAMS

    cut, streams = asyncio.run(story())
    print(f"{cut} of {streams} streams were continued")
    assert cut >= KILLS
