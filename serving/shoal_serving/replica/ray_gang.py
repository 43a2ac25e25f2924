"""The door to Ray for the pods of a gang: gather around the head of rank 0, and know when one of them is lost."""

import socket
import threading
import time
from pathlib import Path
from typing import Any

from shoal_api.replica_config import ReplicaConfig, Stage
from shoal_serving.replica import environment, ray_trimming
from shoal_serving.replica.notes import Died, Notebook

_LOOK_SECONDS = 1.0
_CONNECT_SECONDS = 5.0
_FAILURES_TO_BELIEVE = 3


def gather(config: ReplicaConfig, notebook: Notebook) -> None:
    """On rank 0: wait until every rank has joined, and watch them from then on."""
    told = 0
    while len(nodes := _alive()) < config.nodes:
        if len(nodes) != told:
            told = len(nodes)
            notebook.report(Stage.RAY, f"{told} of {config.nodes} pods of this replica have joined")
        time.sleep(_LOOK_SECONDS)
    threading.Thread(target=_watch, args=(nodes, notebook), name="gang", daemon=True).start()


def lost(known: dict[str, str], alive: dict[str, str]) -> list[str]:
    """The addresses of the nodes that are no more. One that came back is another node: its ranks are gone."""
    return sorted(address for node, address in known.items() if node not in alive)


def _watch(known: dict[str, str], notebook: Notebook) -> None:
    while not (gone := lost(known, _alive())):
        time.sleep(_LOOK_SECONDS)
    sentence = f"a pod of this replica was lost ({', '.join(gone)}): all of its pods start anew together"
    notebook.note(Died(notebook.last_stage(), sentence, is_refusal=False, is_sentence=True))


def _alive() -> dict[str, str]:
    import ray

    return {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}


def wait_for_head(config: ReplicaConfig, notebook: Notebook) -> None:
    """On the other ranks: until rank 0 answers, however long its pod may take."""
    notebook.report(Stage.RAY, f"waits for rank 0 at {config.head}")
    while not _answers(config.head):
        time.sleep(_LOOK_SECONDS)


def join(config: ReplicaConfig, session: Path, object_store_bytes: int) -> Any:
    """Become a node of the head's cluster, with this pod's GPUs and no CPU; returns when the head knows it."""
    ray_trimming.trim_head()
    from ray._private import node, parameter

    host, port = _host_and_port(config.head)
    parameters = parameter.RayParams(
        gcs_address=f"{socket.gethostbyname(host)}:{port}",
        node_ip_address=environment.ray_address(config),
        num_cpus=0,
        num_gpus=config.gpus,
        object_store_memory=object_store_bytes,
        temp_dir=str(session),
    )
    return node.Node(parameters, head=False, shutdown_at_exit=False, spawn_reaper=False)


def follow_head(config: ReplicaConfig, notebook: Notebook) -> None:
    """Watch the head; returns when it is gone, and then this rank has nothing to do any more."""
    failures = 0
    while failures < _FAILURES_TO_BELIEVE:
        time.sleep(_LOOK_SECONDS)
        failures = 0 if _answers(config.head) else failures + 1
    sentence = f"rank 0 of this replica at {config.head} is gone: all of its pods start anew together"
    notebook.note(Died(notebook.last_stage(), sentence, is_refusal=False, is_sentence=True))


def _answers(head: str) -> bool:
    try:
        socket.create_connection(_host_and_port(head), _CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _host_and_port(head: str) -> tuple[str, int]:
    host, _, port = head.rpartition(":")
    return host, int(port)
