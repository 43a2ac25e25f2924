"""The simulator answers as vLLM does: the same table of requests goes to both.

Needs SHOAL_ENGINE_PYTHON (a Python that has vLLM) and SHOAL_TEST_MODELS (with a random Llama in `tiny-llama`)."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from answer_shapes import Call, Shape, ask
from held_ports import a_port

CHAT, TEXT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"
MODEL = "m"
MAX_LEN = 512
_START_SECONDS = 240.0


def chat(**fields: Any) -> str:
    base = {"model": MODEL, "messages": [{"role": "user", "content": "Hello there"}], "max_tokens": 6}
    return json.dumps({**base, "temperature": 0, "ignore_eos": True, **fields})


def text(**fields: Any) -> str:
    base = {"model": MODEL, "prompt": "Hello there", "max_tokens": 6, "temperature": 0, "ignore_eos": True}
    return json.dumps({**base, **fields})


def response(**fields: Any) -> str:
    return json.dumps({"model": MODEL, "input": "Hello", "max_output_tokens": 6, "temperature": 0, **fields})


def message(**fields: Any) -> str:
    base = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 6, "temperature": 0}
    return json.dumps({**base, **fields})


def without(body: str, name: str) -> str:
    return json.dumps({key: value for key, value in json.loads(body).items() if key != name})


LONG = "x" * 600
USAGE = {"include_usage": True}
ALWAYS = {"include_usage": True, "continuous_usage_stats": True}
TOOL = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]

CALLS = [
    Call("chat", "POST", CHAT, chat()),
    Call("chat stream", "POST", CHAT, chat(stream=True)),
    Call("chat stream usage", "POST", CHAT, chat(stream=True, stream_options=USAGE)),
    Call("chat stream usage always", "POST", CHAT, chat(stream=True, stream_options=ALWAYS)),
    Call("chat stream ids", "POST", CHAT, chat(stream=True, return_token_ids=True)),
    Call("chat ids", "POST", CHAT, chat(return_token_ids=True)),
    Call("chat two choices", "POST", CHAT, chat(n=2, temperature=1, seed=1)),
    Call("chat max_completion_tokens", "POST", CHAT, chat(max_completion_tokens=3)),
    Call("chat logprobs", "POST", CHAT, chat(logprobs=True, top_logprobs=1)),
    Call("chat stream logprobs", "POST", CHAT, chat(logprobs=True, top_logprobs=1, stream=True)),
    Call("chat without model", "POST", CHAT, without(chat(), "model")),
    Call(
        "chat text parts", "POST", CHAT, chat(messages=[{"role": "user", "content": [{"type": "text", "text": "a"}]}])
    ),
    Call("chat tools", "POST", CHAT, chat(tools=TOOL)),
    Call("text", "POST", TEXT, text()),
    Call("text stream", "POST", TEXT, text(stream=True)),
    Call("text stream usage ids", "POST", TEXT, text(stream=True, return_token_ids=True, stream_options=USAGE)),
    Call("text stream usage always", "POST", TEXT, text(stream=True, stream_options=ALWAYS)),
    Call("text ids", "POST", TEXT, text(return_token_ids=True)),
    Call("text token prompt", "POST", TEXT, text(prompt=[40, 41, 42])),
    Call("text token prompt stream ids", "POST", TEXT, text(prompt=[40, 41, 42], stream=True, return_token_ids=True)),
    Call("text prompts", "POST", TEXT, text(prompt=["Hello", "you"])),
    Call("text without max_tokens", "POST", TEXT, without(text(), "max_tokens")),
    Call("text null max_tokens", "POST", TEXT, text(max_tokens=None, stream=True)),
    Call("text echo", "POST", TEXT, text(echo=True)),
    Call("text logprobs", "POST", TEXT, text(logprobs=1)),
    Call("models", "GET", "/v1/models", headers=()),
    Call("model by id", "GET", "/v1/models/m", headers=()),
    Call("health", "GET", "/health", headers=()),
    Call("ping", "GET", "/ping", headers=()),
    Call("version", "GET", "/version", headers=()),
    Call("load", "GET", "/load", headers=()),
    Call("tokenize", "POST", "/tokenize", json.dumps({"model": MODEL, "prompt": "Hello"})),
    Call("tokenize strings", "POST", "/tokenize", json.dumps({"prompt": "Hello", "return_token_strs": True})),
    Call("tokenize chat", "POST", "/tokenize", message()),
    Call("detokenize", "POST", "/detokenize", json.dumps({"model": MODEL, "tokens": [40, 41]})),
    Call("responses", "POST", RESPONSES, response()),
    Call("responses stream", "POST", RESPONSES, response(stream=True)),
    Call("responses wrong model", "POST", RESPONSES, response(model="nope")),
    Call("responses without input", "POST", RESPONSES, without(response(), "input")),
    Call("messages", "POST", MESSAGES, message()),
    Call("messages stream", "POST", MESSAGES, message(stream=True)),
    Call("messages wrong model", "POST", MESSAGES, message(model="nope")),
    Call("messages without messages", "POST", MESSAGES, without(message(), "messages")),
    Call("count_tokens", "POST", MESSAGES + "/count_tokens", without(message(), "max_tokens")),
    Call("embeddings of a writer", "POST", "/v1/embeddings", response()),
    Call("wrong model", "POST", CHAT, chat(model="nope")),
    Call("wrong model stream", "POST", CHAT, chat(model="nope", stream=True)),
    Call("text wrong model", "POST", TEXT, text(model="nope")),
    Call("bad json", "POST", CHAT, '{"model": "m", "mess'),
    Call("bad json late", "POST", CHAT, '{"model": "m", "messages": [}'),
    Call("empty body", "POST", CHAT, ""),
    Call("array body", "POST", CHAT, "[1,2]"),
    Call("string body", "POST", CHAT, '"x"'),
    Call("null body", "POST", CHAT, "null"),
    Call("wrong content type", "POST", CHAT, chat(), (("content-type", "text/plain"),)),
    Call("without messages", "POST", CHAT, without(chat(), "messages")),
    Call("without prompt", "POST", TEXT, without(text(), "prompt")),
    Call("no messages", "POST", CHAT, chat(messages=[])),
    Call("messages of a wrong type", "POST", CHAT, chat(messages="x")),
    Call("no prompts", "POST", TEXT, text(prompt=[])),
    Call("temperature of a wrong type", "POST", CHAT, chat(temperature="hot")),
    Call("temperature too high", "POST", CHAT, chat(temperature=5)),
    Call("temperature below zero", "POST", CHAT, chat(temperature=-1)),
    Call("top_p too high", "POST", CHAT, chat(top_p=2)),
    Call("n zero", "POST", CHAT, chat(n=0)),
    Call("n two and greedy", "POST", CHAT, chat(n=2)),
    Call("n of a wrong type", "POST", CHAT, chat(n="x")),
    Call("max_tokens of a wrong type", "POST", CHAT, chat(max_tokens="x")),
    Call("max_tokens a fraction", "POST", CHAT, chat(max_tokens=1.5)),
    Call("max_tokens zero", "POST", CHAT, chat(max_tokens=0)),
    Call("max_tokens too large", "POST", CHAT, chat(max_tokens=100000)),
    Call("two wrong types", "POST", CHAT, chat(max_tokens="x", n=[1])),
    Call("stream of a wrong type", "POST", CHAT, chat(stream="maybe")),
    Call("too long", "POST", CHAT, chat(messages=[{"role": "user", "content": LONG}])),
    Call("too long stream", "POST", CHAT, chat(messages=[{"role": "user", "content": LONG}], stream=True)),
    Call("text too long", "POST", TEXT, text(prompt=LONG)),
    Call("stream_options without stream", "POST", CHAT, chat(stream_options=USAGE)),
    Call("token out of vocabulary", "POST", TEXT, text(prompt=[10_000_000])),
    Call("GET of a POST path", "GET", CHAT, headers=()),
    Call("unknown path", "POST", "/v1/nothing", chat()),
    Call("DELETE of a GET path", "DELETE", "/v1/models", headers=()),
]


@dataclass(frozen=True, slots=True)
class Server:
    """A server on a loopback port; `group` is its process group."""

    port: int
    group: int


@contextmanager
def running(command: list[str], port: int, environment: dict[str, str]) -> Iterator[Server]:
    """A server whose whole process group ends with the test."""
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, text=True
    )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                output, _ = process.communicate()
                pytest.fail(f"{command[:4]} did not start: {output[-2000:]}")
            time.sleep(0.2)
        yield Server(port, process.pid)
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # a test has ended it already
        process.communicate()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="module")
def simulator() -> Iterator[Server]:
    port = a_port()
    command = [sys.executable, "-m", "shoal_serving.simulator", "--open", "--listen", f"127.0.0.1:{port}"]
    command += ["--model", MODEL, "--simulate", f"max-model-len={MAX_LEN}"]
    with running(command, port, dict(os.environ)) as listening:
        yield listening


@pytest.fixture(scope="module")
def vllm() -> Iterator[Server]:
    python, models = os.environ["SHOAL_ENGINE_PYTHON"], os.environ["SHOAL_TEST_MODELS"]
    port = a_port()
    command = [
        python,
        "-m",
        "vllm.entrypoints.cli.main",
        "serve",
        str(Path(models) / "tiny-llama"),
        "--port",
        str(port),
    ]
    command += ["--host", "127.0.0.1", "--served-model-name", MODEL, "--max-model-len", str(MAX_LEN)]
    command += ["--enforce-eager", "--dtype", "float32"]
    settings = {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }
    with running(command, port, {**os.environ, **settings}) as listening:
        yield listening


@pytest.mark.parametrize("call", CALLS, ids=[call.name.replace(" ", "-") for call in CALLS])
def test_answers_have_the_shape_of_the_real_engines(call: Call, simulator: Server, vllm: Server) -> None:
    assert ask(simulator.port, call) == ask(vllm.port, call)


def test_metrics_carry_the_names_of_the_real_engine(simulator: Server, vllm: Server) -> None:
    assert metric_names(simulator) <= metric_names(vllm)


@pytest.mark.nightly  # a plain vLLM under five streams can stand still for half a minute on two cores
def test_the_death_of_the_engine_looks_the_same_on_every_api(simulator: Server, vllm: Server) -> None:
    """The last test: nothing answers here afterwards."""
    post(simulator, "/simulator/knobs", {"gap-seconds": 0.02, "answer-tokens": 10_000})
    ours = while_dying(simulator, lambda: post(simulator, "/simulator/faults", {"kind": "engine-death"}, trigger=True))
    real = while_dying(vllm, lambda: kill_engine_core(vllm))
    assert ours == real


def while_dying(server: Server, kill: Callable[[], None]) -> dict[str, Shape]:
    """The shapes of answers under which the engine died."""
    calls = [
        Call("chat stream", "POST", CHAT, chat(stream=True, max_tokens=450)),
        Call("text stream", "POST", TEXT, text(stream=True, max_tokens=450)),
        Call("text", "POST", TEXT, text(max_tokens=450)),
        Call("responses stream", "POST", RESPONSES, response(stream=True, max_output_tokens=450, ignore_eos=True)),
        Call("messages stream", "POST", MESSAGES, message(stream=True, max_tokens=450)),
    ]
    with ThreadPoolExecutor(len(calls)) as pool:
        answers = {call.name: pool.submit(ask, server.port, call) for call in calls}
        deadline = time.monotonic() + 30
        while running_requests(server) < len(calls):
            assert time.monotonic() < deadline, "the requests never ran together"
        kill()
        return {name: answer.result() for name, answer in answers.items()}


def post(server: Server, path: str, value: object, trigger: bool = False) -> None:
    """`trigger`: and then a request, for the fault to meet."""
    assert ask(server.port, Call("order", "POST", path, json.dumps(value))).status == 200
    if trigger:
        ask(server.port, Call("trigger", "POST", CHAT, chat()))


def kill_engine_core(server: Server) -> None:
    """Of the processes in the server's own group the one that vLLM names so."""
    for folder in Path("/proc").iterdir():
        try:
            is_ours = folder.name.isdigit() and os.getpgid(int(folder.name)) == server.group
            if is_ours and b"EngineCore" in (folder / "cmdline").read_bytes() + (folder / "comm").read_bytes():
                os.kill(int(folder.name), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked


def metric_lines(server: Server) -> list[str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=30) as answer:
        return list(answer.read().decode().splitlines())


def running_requests(server: Server) -> float:
    return sum(float(line.split()[-1]) for line in metric_lines(server) if line.startswith("vllm:num_requests_running"))


def metric_names(server: Server) -> set[tuple[str, frozenset[str]]]:
    names = set()
    for line in metric_lines(server):
        if line.startswith("vllm:") and "cache_config_info" not in line:
            name, _, labels = line.rpartition(" ")[0].partition("{")
            names.add((name, frozenset(label.split("=")[0] for label in labels.rstrip("}").split(","))))
    return names
