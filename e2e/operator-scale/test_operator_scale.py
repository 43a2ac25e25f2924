"""Many models on nodes without machines: what operator and gateway cost at rest, and how soon a change is acted on."""

import json
import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import psutil
import pytest

from localkube.access import Access
from localkube.commands import Refused, run
from storykit import installation, running

pytestmark = [pytest.mark.cluster, pytest.mark.nightly, pytest.mark.alone]

MODELS = int(os.environ.get("SHOAL_SCALE_MODELS", "1000"))
CHANGES = max(1, MODELS // 100)
REST_SECONDS = 30
NODES = 10
NAMESPACE = "operator-scale"
PORT = int(os.environ.get("SHOAL_SCALE_PORT", "22090"))
"""The operator's; the gateway has the two behind it."""
CRD = Path(__file__).resolve().parents[2] / "crds/modeldeployments.yaml"
FAKE = "kwok.x-k8s.io/node"
QUEUE = "shoal_reconcile_queue_models"
READY = "shoal_ready_replicas"
WRITES = 'shoal_api_calls_total{kind="write"}'
READS = 'shoal_api_calls_total{kind="read"}'


def a_model(index: int) -> dict[str, object]:
    spec = {
        "model": {"source": "hf://org/model", "names": [f"model-{index}"]},
        "resources": {"gpu": 0, "cpu": "1m", "memory": "1Mi", "sharedMemory": "1Mi"},
        "scheduling": {"nodeSelector": {"type": "kwok"}, "tolerations": [{"key": FAKE, "operator": "Exists"}]},
        "replicas": 1,
    }
    metadata = {"name": f"model-{index}", "namespace": NAMESPACE}
    return {"apiVersion": "shoal.dev/v1alpha1", "kind": "ModelDeployment", "metadata": metadata, "spec": spec}


class Program:
    """A program of ours in the cluster's network, with its children."""

    def __init__(self, cluster: Access, pid: int, port: int) -> None:
        self._cluster = cluster
        self._process = psutil.Process(pid)
        self._port = port

    def metric(self, name: str) -> float:
        """The sum of all samples whose line begins so; 0 while the program starts."""
        try:
            page = self._cluster.run(["curl", "-s", f"http://127.0.0.1:{self._port}/metrics"])
        except Refused:
            return 0.0
        return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(name))

    def cpu_seconds(self) -> float:
        return float(sum(times.user + times.system for times in (each.cpu_times() for each in self._family())))

    def memory_mib(self) -> int:
        return round(sum(each.memory_info().rss for each in self._family()) / 2**20)

    def _family(self) -> list[psutil.Process]:
        return [self._process, *self._process.children(recursive=True)]


class Programs:
    """Starts operators and gateways that belong to one installation."""

    def __init__(self, cluster: Access, folder: Path) -> None:
        self._cluster = cluster
        self._key = folder / "key"
        self._key.write_text(secrets.token_hex(32))

    @contextmanager
    def operator(self, log: Path) -> Iterator[Program]:
        words = ["shoal_operator", "operator", "--lease-namespace", NAMESPACE, "--engine-image", "localhost/none:1"]
        with self._started([*words, "--listen", f"127.0.0.1:{PORT}"], log, PORT) as program:
            yield program

    @contextmanager
    def gateway(self, log: Path) -> Iterator[Program]:
        words = ["shoal_serving.gateway", "--kubernetes", "--listen", f"127.0.0.1:{PORT + 1}"]
        with self._started([*words, "--internal", f"127.0.0.1:{PORT + 2}"], log, PORT + 2) as program:
            yield program

    @contextmanager
    def _started(self, words: list[str], log: Path, port: int) -> Iterator[Program]:
        shared = ["--namespaces", NAMESPACE, "--kubeconfig", str(self._cluster.kubeconfig)]
        command = [sys.executable, "-m", *words, *shared, "--master-key-file", str(self._key)]
        process = self._cluster.start(command, log)
        try:
            yield Program(self._cluster, process.pid, port)
        finally:
            process.terminate()
            process.wait(30)


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
        try:
            yield cluster
        finally:
            began = time.monotonic()
            cluster.kubectl("delete", "namespace", NAMESPACE, timeout_seconds=900)
            print(f"\nall deleted after {time.monotonic() - began:.0f} s")


def wait(fact: Callable[[], bool], what: str, seconds: float) -> float:
    began = time.monotonic()
    while not fact():
        assert time.monotonic() - began < seconds, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.5)
    return round(time.monotonic() - began, 1)


def test_at_rest_it_writes_nothing_and_a_change_is_acted_on_at_once(many_nodes: Access, tmp_path: Path) -> None:
    cluster, programs, log = many_nodes, Programs(many_nodes, tmp_path), tmp_path / "operator.log"
    report: dict[str, object] = {"models": MODELS}
    with programs.gateway(tmp_path / "gateway.log") as gateway:
        with programs.operator(log) as operator:
            report |= all_made(cluster, operator, gateway)
            report |= at_rest(operator, gateway)
            report["seconds_to_act_on_a_change"] = changed(cluster, log)
            wait(lambda: is_done(operator, MODELS + CHANGES), "all are ready again", 120)
            report["memory_mib"] = {"operator": operator.memory_mib(), "gateway": gateway.memory_mib()}
        with programs.operator(tmp_path / "restarted.log") as operator:
            again = wait(lambda: is_done(operator, MODELS + CHANGES), "a restarted operator knows all", 120)
            rewritten = operator.metric(WRITES)
            report["restarted"] = {"seconds": again, "writes": rewritten}
    print(json.dumps(report))
    assert report["writes_at_rest"] == 0
    assert rewritten == 0, "what another operator made is as it should be"


def all_made(cluster: Access, operator: Program, gateway: Program) -> dict[str, object]:
    """Make all models; what that took."""
    began = time.monotonic()
    items = [a_model(index) for index in range(MODELS)]
    everything = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    cluster.kubectl("create", "-f", "-", stdin=everything, timeout_seconds=600)
    created = time.monotonic() - began
    wait(lambda: is_done(operator, MODELS), f"{MODELS} ready", 1200)
    ready = time.monotonic() - began
    wait(lambda: gateway.metric("shoal_endpoints{") >= MODELS, f"{MODELS} endpoints", 600)
    routed = time.monotonic() - began
    cpu = {"operator": operator.cpu_seconds(), "gateway": gateway.cpu_seconds()}
    return {
        "seconds": {"created": round(created, 1), "ready": round(ready, 1), "routed": round(routed, 1)},
        "calls_per_model": {
            "writes": round(operator.metric(WRITES) / MODELS, 2),
            "reads": round(operator.metric(READS) / MODELS, 2),
        },
        "cpu_seconds": {name: round(seconds, 1) for name, seconds in cpu.items()},
    }


def is_done(operator: Program, replicas: int) -> bool:
    return operator.metric(READY) >= replicas and operator.metric(QUEUE) == 0


def at_rest(operator: Program, gateway: Program) -> dict[str, object]:
    """What both cost while nothing happens."""
    time.sleep(5)  # a watch's last events have no other sign
    writes, reads = operator.metric(WRITES), operator.metric(READS)
    before = {"operator": operator.cpu_seconds(), "gateway": gateway.cpu_seconds()}
    time.sleep(REST_SECONDS)
    after = {"operator": operator.cpu_seconds(), "gateway": gateway.cpu_seconds()}
    cores = {name: round((after[name] - before[name]) / REST_SECONDS, 4) for name in before}
    assert cores["operator"] < 0.3
    return {
        "cores_at_rest": cores,
        "writes_at_rest": operator.metric(WRITES) - writes,
        "reads_at_rest": operator.metric(READS) - reads,
    }


def changed(cluster: Access, log: Path) -> dict[str, float]:
    """Ask for a second replica of so many models in one go; for each, from before its own asking until it was made.

    kubectl asks for one after the other and says so of each: the next is asked for when the last one is said.
    """
    names = [f"model-{index}" for index in range(CHANGES)]
    stamped = "while read -r said; do echo $(date +%s.%N) $said; done"
    began = time.time()
    scale = f"kubectl scale mdep {' '.join(names)} -n {NAMESPACE} --replicas=2"
    said = [line.split() for line in cluster.run(["bash", "-o", "pipefail", "-c", f"{scale} | {stamped}"]).splitlines()]
    assert [what.rpartition("/")[2] for _, what, _ in said] == names
    told = [float(when) for when, *_ in said]
    asked = dict(zip(names, [began, *told], strict=False))
    delays: dict[str, float] = {}

    def all_there() -> bool:
        for line in log.read_text().splitlines():
            found = re.match(r"(\S+ \S+) INFO model=\S+?/(\S+) reason=ScaledUp because=\"2 wanted", line)
            if found and found.group(2) in names:
                acted = datetime.strptime(found.group(1), "%Y-%m-%d %H:%M:%S,%f").timestamp()
                delays[found.group(2)] = round(acted - asked[found.group(2)], 3)
        return len(delays) == CHANGES

    wait(all_there, "a second replica of each", 60)
    inorder = sorted(delays.values())
    return {"median": inorder[len(inorder) // 2], "longest": inorder[-1], "asking_took": round(told[-1] - began, 3)}
