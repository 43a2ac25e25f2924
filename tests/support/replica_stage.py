"""A replica program with a stand-in for everything below it: `python replica_stage.py CONFIG [MODE]`.

The stand-in does what Ray, Serve and vLLM do as far as the program can see: it starts processes of its own, tells what
they are, and serves a door on the port.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvicorn

from shoal_api.replica_config import Stage
from shoal_serving.replica import config as configuration
from shoal_serving.replica import engine_log, process_tree
from shoal_serving.replica.admission import Admission
from shoal_serving.replica.door import Door, Receive, Scope, Send
from shoal_serving.replica.notes import ENGINE_CORE, Died, Notebook, Serving, Vital
from shoal_serving.replica.program import Program

_STUBBORN = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def main() -> int:
    file, mode = Path(sys.argv[1]), sys.argv[2]
    if len(sys.argv) > 3:
        return _stand_in(file, mode)
    process_tree.become_subreaper()
    config = configuration.read(file, {})
    config.directory.mkdir(parents=True, exist_ok=True)
    session = config.directory / "session"
    session.mkdir()
    command = [sys.executable, __file__, str(file), mode, "below"]
    program = Program(config, configuration.read_model_key(config), command, os.environ, session)
    ending = asyncio.run(program.run())
    if ending.words is not None:
        config.termination_message.write_text(ending.words.to_text())
    return ending.exit_code


def _stand_in(file: Path, mode: str) -> int:
    config = configuration.read(file, {})
    notebook = Notebook(config.directory, time.time)
    engine_log.redirect_output(config.directory)
    # Two that ignore to be asked; the second is an orphan at once, as an engine core is after its actor was killed.
    core = subprocess.Popen([sys.executable, "-c", _STUBBORN])
    subprocess.run(["sh", "-c", f'{sys.executable} -c "{_STUBBORN}" & echo $! > {config.directory}/orphan'], check=True)
    notebook.note(Vital(os.getpid(), "the Serve actor"))
    notebook.note(Vital(core.pid, ENGINE_CORE))
    (config.directory / "core").write_text(str(core.pid))
    (config.directory / "actor").write_text(str(os.getpid()))
    if mode == "starts-forever":
        time.sleep(600)
    if mode == "refuses":
        notebook.note(Died(Stage.IMPORTS, "vLLM refuses engine.args: unrecognized arguments: --frobnicate", True))
        time.sleep(600)
    if mode == "dies-at-first-request":
        print("(Worker pid=7) ERROR 11-21 10:26:58 [x.py:1] RuntimeError: the answer is 42", flush=True)
        notebook.note(Died(Stage.SELF_TEST, "SelfTestFailed: 500: EngineCore encountered an issue", False))
        time.sleep(600)
    key, new_key = configuration.read_model_key(config), configuration.KeyFile(config).changed
    admission = Admission(key, config.replica_uid, config.settle_seconds, new_key=new_key)
    door = Door(_app(config.directory), admission, _Healthy(), time.monotonic)
    server = uvicorn.Server(uvicorn.Config(door, host=config.host, port=config.port, lifespan="off", log_level="error"))
    server.capture_signals = _no_signals  # type: ignore[method-assign, assignment]
    notebook.note(Serving(0.1))
    if mode == "closes-its-port":
        asyncio.run(_serve_until(config.directory / "close", server))
        time.sleep(600)
    asyncio.run(server.serve())
    return 0


async def _serve_until(told: Path, server: uvicorn.Server) -> None:
    serving = asyncio.create_task(server.serve())
    while not told.exists():  # noqa: ASYNC110, ASYNC240  (a test tells it by a file)
        await asyncio.sleep(0.02)
    server.should_exit = True
    await serving


class _Healthy:
    def is_ready(self) -> bool:
        return True


class _no_signals:  # noqa: N801  (stands for a function)
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def _app(directory: Path) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        """An answer in one piece; with a query, in pieces until the file of that name is there."""
        told = scope["query_string"].decode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"data: first\n\n", "more_body": True})
        while told and not (directory / told).exists():
            await asyncio.sleep(0.02)
            await send({"type": "http.response.body", "body": b"data: more\n\n", "more_body": True})
        await send({"type": "http.response.body", "body": b"data: last\n\ndata: [DONE]\n\n"})

    return answer


if __name__ == "__main__":
    sys.exit(main())
