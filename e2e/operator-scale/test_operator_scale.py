"""Many models on nodes without machines: what the operator costs at rest, and how soon it acts on a change."""

import json
import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import psutil
import pytest

from localkube.access import Access
from localkube.commands import Refused, run
from storykit import installation, running

pytestmark = [pytest.mark.cluster, pytest.mark.nightly, pytest.mark.alone]

MODELS = int(os.environ.get("SHOAL_SCALE_MODELS", "1000"))
REST_SECONDS = 30
NODES = 10
NAMESPACE = "operator-scale"
PORT = int(os.environ.get("SHOAL_SCALE_PORT", "22090"))
CRD = Path(__file__).resolve().parents[2] / "crds/modeldeployments.yaml"
FAKE = "kwok.x-k8s.io/node"


def a_model(index: int) -> dict[str, object]:
    spec = {
        "model": {"source": "hf://org/model", "names": [f"model-{index}"]},
        "resources": {"gpu": 0, "cpu": "1m", "memory": "1Mi", "sharedMemory": "1Mi"},
        "scheduling": {"nodeSelector": {"type": "kwok"}, "tolerations": [{"key": FAKE, "operator": "Exists"}]},
        "replicas": 1,
    }
    metadata = {"name": f"model-{index}", "namespace": NAMESPACE}
    return {"apiVersion": "shoal.dev/v1alpha1", "kind": "ModelDeployment", "metadata": metadata, "spec": spec}


class Operator:
    """One operator in the cluster's network."""

    def __init__(self, cluster: Access, folder: Path) -> None:
        key = folder / "key"
        key.write_text(secrets.token_hex(32))
        command = [sys.executable, "-m", "shoal_operator", "operator", "--kubeconfig", str(cluster.kubeconfig)]
        command += ["--namespaces", NAMESPACE, "--lease-namespace", NAMESPACE, "--master-key-file", str(key)]
        command += ["--engine-image", "localhost/none:1", "--listen", f"127.0.0.1:{PORT}"]
        self._cluster = cluster
        self.process = cluster.start(command, folder / "operator.log")

    def metric(self, name: str) -> float:
        try:
            page = self._cluster.run(["curl", "-s", f"http://127.0.0.1:{PORT}/metrics"])
        except Refused:  # it starts
            return 0.0
        return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(name))

    def cpu_seconds(self) -> float:
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def memory_mib(self) -> float:
        return float(psutil.Process(self.process.pid).memory_info().rss / 2**20)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture(scope="module")
def many_nodes(cluster: Access) -> Iterator[Access]:
    """Nodes without machines, and no other operator than ours for the namespace that is made here."""
    if not cluster.get("nodes", "-l", "type=kwok")["items"]:
        if not cluster.is_local:
            pytest.skip("the given cluster has no nodes of kwok (label type=kwok)")
        run([sys.executable, running.PROGRAM, "start", "--kwok", str(NODES)], doing="adding nodes", timeout_seconds=300)
    cluster.kubectl("apply", "--server-side", "-f", str(CRD))
    with installation.paused(cluster):
        cluster.kubectl("create", "namespace", NAMESPACE)
        yield cluster
        cluster.kubectl("delete", "namespace", NAMESPACE, timeout_seconds=900)


def wait(fact: Callable[[], bool], what: str, seconds: float) -> float:
    began = time.monotonic()
    while not fact():
        assert time.monotonic() - began < seconds, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.25)
    return time.monotonic() - began


def test_at_rest_it_writes_nothing_and_a_change_is_acted_on_at_once(many_nodes: Access, tmp_path: Path) -> None:
    cluster = many_nodes
    for first in range(0, MODELS, 250):
        cluster.apply(*(a_model(index) for index in range(first, min(first + 250, MODELS))))
    operator = Operator(cluster, tmp_path)
    try:
        up = wait(lambda: operator.metric("shoal_ready_replicas") >= MODELS, f"{MODELS} ready", 1800)
        wait(lambda: operator.metric("shoal_reconcile_queue_models") == 0, "an empty queue", 60)
        time.sleep(5)  # a watch's last events have no other sign

        writes, reads, cpu = (
            operator.metric('shoal_api_calls_total{kind="write"}'),
            operator.metric('shoal_api_calls_total{kind="read"}'),
            operator.cpu_seconds(),
        )
        time.sleep(REST_SECONDS)
        rest_cores = (operator.cpu_seconds() - cpu) / REST_SECONDS
        rest_writes = operator.metric('shoal_api_calls_total{kind="write"}') - writes
        rest_reads = operator.metric('shoal_api_calls_total{kind="read"}') - reads

        delays = changed(cluster, max(1, MODELS // 100), tmp_path / "operator.log")
        report = {
            "models": MODELS,
            "seconds_until_all_ready": round(up, 1),
            "cores_at_rest": round(rest_cores, 4),
            "writes_at_rest": rest_writes,
            "reads_at_rest": rest_reads,
            "memory_mib": round(operator.memory_mib()),
            "seconds_to_act_on_a_change": {"median": sorted(delays)[len(delays) // 2], "longest": max(delays)},
        }
        print(json.dumps(report))
        assert rest_writes == 0
        assert rest_cores < 0.3
    finally:
        operator.stop()


def changed(cluster: Access, count: int, log: Path) -> list[float]:
    """Ask for a second replica of so many models; how long after the answer to that the operator had made each."""
    asked: dict[str, float] = {}
    for index in range(count):
        name = f"model-{index}"
        cluster.kubectl("patch", "mdep", name, "-n", NAMESPACE, "--type=merge", "-p", '{"spec":{"replicas":2}}')
        asked[name] = time.time()
    delays: dict[str, float] = {}

    def all_there() -> bool:
        for line in (log.read_text()).splitlines():
            found = re.match(r"(\S+ \S+) INFO model=\S+?/(\S+) reason=ScaledUp because=\"2 wanted", line)
            if found and found.group(2) in asked:
                acted = datetime.strptime(found.group(1), "%Y-%m-%d %H:%M:%S,%f").timestamp()
                delays[found.group(2)] = round(acted - asked[found.group(2)], 3)
        return len(delays) == count

    wait(all_there, "a second replica of each", 60)
    return list(delays.values())
