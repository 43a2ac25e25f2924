"""Have the engine's processes forked from one that has imported vLLM already.

Otherwise each of them imports it, one after the other: that was more than half of a start on CPU.

vLLM insists on fresh interpreters because it must not fork a Ray actor. A fork server is a process of its own, without
threads and without a device; it imports while Ray starts.
"""

import importlib
import importlib.util
import multiprocessing
import os
from collections.abc import Mapping
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

PRELOADED = "shoal_serving.replica.forking_preload"
_PRELOAD_VARIABLE = "LD_PRELOAD"
_ADDRESS_VARIABLE = "SHOAL_FORK_SERVER"
_METHOD_VARIABLE = "VLLM_WORKER_MULTIPROC_METHOD"
_LIBRARIES = (("torch", "lib/libgomp*.so*"), ("vllm", "libs/libtcmalloc*.so*"))
_USERS = (
    "vllm.utils.system_utils",
    "vllm.v1.engine.coordinator",
    "vllm.v1.engine.utils",
    "vllm.v1.executor.multiproc_executor",
)


def is_wanted(gpus: int, variables: Mapping[str, str]) -> bool:
    """Only where it is tried: on CPU, unless the model owner chose a method or binds each process's threads."""
    return gpus == 0 and _METHOD_VARIABLE not in variables and variables.get("VLLM_CPU_OMP_THREADS_BIND") == "nobind"


def start_server() -> None:
    """Begin to import in the server, which lives as long as this process; this returns at once."""
    multiprocessing.set_forkserver_preload([PRELOADED])
    libraries = _libraries()
    if libraries:  # vLLM would preload them into each fresh interpreter
        os.environ[_PRELOAD_VARIABLE] = ":".join(libraries)
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop(_PRELOAD_VARIABLE, None)
    os.environ[_ADDRESS_VARIABLE] = os.fsdecode(_server()._forkserver_address)


def join_server() -> bool:
    """Use the server that a process above has started; False where there is none."""
    address = os.environ.get(_ADDRESS_VARIABLE)
    if address is None:
        return False
    server = _server()
    server._forkserver_address = address
    server._forkserver_alive_fd = os.open(
        os.devnull, os.O_WRONLY
    )  # the server's life hangs on its starter's, not on ours
    share_server()
    return True


def use_server() -> None:
    """Make vLLM in this process start its processes through the server."""
    for name in _USERS:
        module = importlib.import_module(name)
        if not hasattr(module, "get_mp_context"):
            raise AttributeError(f"{name} has no get_mp_context: this vLLM starts its processes in another way")
        module.get_mp_context = _context  # type: ignore[attr-defined]


def share_server() -> None:
    """The processes of this one come from the server that is known already, not from another one."""
    _server().ensure_running = resource_tracker.ensure_running


def _server() -> Any:
    return forkserver._forkserver


def _context() -> BaseContext:
    return multiprocessing.get_context("forkserver")


def _libraries() -> list[str]:
    found = []
    for package, pattern in _LIBRARIES:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            found += sorted(str(file) for file in Path(spec.origin).parent.glob(pattern))[:1]
    return found
