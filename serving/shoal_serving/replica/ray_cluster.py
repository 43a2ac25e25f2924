"""The door to Ray: this replica's own small cluster, started by `python -m shoal_serving.replica.ray_cluster`.

It runs below the replica program and not inside it: Ray's native code ends its process when the raylet or the GCS is
gone, and then nobody would be left to say why and to end the rest.
"""

import argparse
import logging
import os
import shutil
import signal
import socket
import time
from pathlib import Path
from types import FrameType

from shoal_api.replica_config import ReplicaConfig, Stage
from shoal_serving.replica import config as configuration
from shoal_serving.replica import (
    engine_log,
    engines,
    environment,
    forking,
    process_tree,
    ranks,
    ray_gang,
    ray_trimming,
)
from shoal_serving.replica.notes import Died, Joined, Notebook, Vital

_OBJECT_STORE_BYTES = 80 * 1024 * 1024
_KEEP_ALIVE_SECONDS = 3600
"""Gateways keep their connections; each new one costs a hello."""


def main() -> None:
    arguments = _arguments()
    _end_with_the_program(arguments.session)
    config = configuration.read(arguments.config, os.environ)
    notebook = Notebook(config.directory, time.time)
    engine_log.redirect_output(config.directory)
    if not engines.is_simulated(os.environ) and forking.is_wanted(config.gpus, os.environ):
        forking.start_server()
    try:
        if config.rank == 0:
            _serve(config, arguments.session, notebook)
        else:
            _join(config, arguments.session, notebook)
    except Exception as error:  # noqa: BLE001  (whatever it is, it ends the replica with its reason)
        notebook.note(Died(Stage.RAY, f"{type(error).__name__}: {error}", False))
    while True:
        signal.pause()


def _serve(config: ReplicaConfig, session: Path, notebook: Notebook) -> None:
    layout = ranks.lay_out(config)
    _start_ray(config, session)
    _note_vital(notebook)

    from ray import serve

    from shoal_serving.replica import deployment

    if config.nodes > 1:
        ray_gang.gather(config, notebook)

    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # it names the proxy's address, which is not there

    http = {"host": config.host, "port": _free_port(config.host), "keep_alive_timeout_s": _KEEP_ALIVE_SECONDS}
    serve.start(http_options=http, logging_config={"enable_access_log": False})
    serve.run(deployment.application(config, layout), name="shoal", route_prefix="/")


def _join(config: ReplicaConfig, session: Path, notebook: Notebook) -> None:
    ray_gang.wait_for_head(config, notebook)
    node = ray_gang.join(config, session, _OBJECT_STORE_BYTES)
    _note_vital(notebook)
    notebook.note(Joined())
    ray_gang.follow_head(config, notebook)
    del node


def _note_vital(notebook: Notebook) -> None:
    for process in process_tree.descendants(os.getpid()):
        if process.name in ("gcs_server", "raylet"):
            notebook.note(Vital(process.pid, f"Ray's {process.name.replace('_', ' ')}"))


def _start_ray(config: ReplicaConfig, session: Path) -> None:
    import ray

    ray_trimming.trim_head()
    ray.init(
        num_cpus=1,
        num_gpus=config.gpus,
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        log_to_driver=False,
        logging_level="WARNING",
        _temp_dir=str(session),
        _node_ip_address=environment.ray_address(config),
    )


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def _end_with_the_program(session: Path) -> None:
    """When the replica program is killed hard, this one ends everything that it started."""
    program = os.getppid()
    process_tree.become_subreaper()

    def end(_number: int, _frame: FrameType | None) -> None:
        segments = process_tree.shared_memory_below(os.getpid())
        process_tree.end_all_below(os.getpid(), give_up_seconds=5, clock=time.monotonic, sleep=time.sleep)
        for segment in segments:
            segment.unlink(missing_ok=True)
        shutil.rmtree(session, ignore_errors=True)
        os._exit(1)

    signal.signal(signal.SIGUSR2, end)
    process_tree.signal_me_when_parent_dies(signal.SIGUSR2)
    if os.getppid() != program:
        end(signal.SIGUSR2, None)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--session", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
