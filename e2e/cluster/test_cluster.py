"""The cluster itself, for real: each claim of its README in one story, from an empty machine back to an empty machine.

Chosen with `pytest e2e/cluster -m cluster`; needs root, cgroup v1 and, the first time, some minutes to build.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from localkube import access, images, layout, leftovers, network, starting, state, waiting
from localkube.access import Access

pytestmark = pytest.mark.cluster

PLACE = layout.from_environment()
SERVER = """
import os
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
os.chdir("/etc")
ThreadingHTTPServer(("", 8000), SimpleHTTPRequestHandler).serve_forever()
"""
DOCKERFILE = """ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN python3 -m venv /venv && /venv/bin/pip install --quiet uv
RUN /venv/bin/uv pip install --python /venv/bin/python iniconfig==2.1.0
COPY hello.py /hello.py
"""
SHARED_FOLDERS = (Path("/run/containerd/s"), Path("/var/lib/cni/results"), Path("/var/log/containers"))
WATCHED_FOLDERS = (*map(str, SHARED_FOLDERS), "/run", "/var/lib", "/var/log", "/etc", "/opt", "/usr/libexec")
OUR_PROGRAMS = ("containerd", "runc", "kubernetes", "coredns", "kwok", "pause")


@dataclass(frozen=True)
class Machine:
    """What a cluster may not change for good."""

    mounts: list[str]
    namespaces: list[str]
    cgroups: list[str]
    folders: dict[str, list[str]]
    sysctls: dict[str, str]
    programs: list[str]


def machine() -> Machine:
    cgroups = [path for path in layout.CGROUP_FOLDER.rglob(f"{layout.PREFIX}*") if path.is_dir()]
    programs = [
        str(link.readlink()) for link in Path("/proc").glob("[0-9]*/exe") if os.path.lexists(link) and _readable(link)
    ]
    return Machine(
        # Images may be built on this machine meanwhile; that mounts their store for as long.
        mounts=sorted(path for path in leftovers.mounted() if not Path(path).is_relative_to(PLACE.cache)),
        namespaces=network.namespaces(),
        cgroups=[str(path) for path in cgroups],
        folders={
            folder: sorted(path.name for path in Path(folder).iterdir())
            for folder in WATCHED_FOLDERS
            if Path(folder).is_dir()
        },
        sysctls={name: leftovers.sysctl(name) for name in leftovers.CHANGED_SYSCTLS},
        programs=sorted(program for program in programs if Path(program).name.startswith(OUR_PROGRAMS)),
    )


def _readable(link: Path) -> bool:
    try:
        return bool(link.readlink())
    except OSError:  # a kernel thread, or gone
        return False


def command(*words: str, environment: dict[str, str] | None = None, entry: tuple[str, ...] = ()) -> str:
    tool = [*entry, sys.executable, str(Path(__file__).with_name("cluster.py")), *words]
    done = subprocess.run(tool, capture_output=True, text=True, timeout=900, env={**os.environ, **(environment or {})})
    sys.stdout.write(done.stdout)
    assert done.returncode == 0, done.stderr
    return done.stdout


def eventually(is_so: Callable[[], bool], what: str, seconds: float = 60) -> None:
    sys.stdout.write(f"{what}: {waiting.until(is_so, what=what, seconds=seconds, logs=PLACE.logs):.1f} s\n")


@pytest.fixture(scope="module")
def before() -> Iterator[Machine]:
    """The machine as it was; some of the folders that the cluster writes to are there and hold foreign files."""
    if state.read(PLACE.state_file) is not None:
        pytest.skip("a cluster runs on this machine already; stop it first")
    made = [folder for folder in SHARED_FOLDERS if not folder.exists()]
    for folder in SHARED_FOLDERS:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "foreign").write_text("{}")
    yield machine()
    for folder in SHARED_FOLDERS:
        (folder / "foreign").unlink()
    for folder in made:
        os.removedirs(folder)


@pytest.fixture(scope="module")
def cluster(before: Machine) -> Iterator[Access]:
    command("build")
    try:
        command("start", "--gpus", "4")
        yield access.from_environment(PLACE)
    finally:
        command("stop")


@pytest.fixture(scope="module")
def base_image(cluster: Access) -> str:
    command("load", str(images.base_archive(PLACE)))
    return images.base(PLACE)


def pod(name: str, image: str, node: str | None = None, gpus: int = 0, argv: list[str] | None = None) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "Never",
        "command": argv or ["python3", "-c", SERVER],
        "resources": {"limits": {"nvidia.com/gpu": str(gpus)}} if gpus else {},
    }
    if argv is None:
        probe = {"httpGet": {"path": "/hostname", "port": 8000}, "periodSeconds": 1}
        container |= {"readinessProbe": probe, "ports": [{"containerPort": 8000}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name.partition("-")[0]}},
        "spec": {
            "containers": [container],
            "terminationGracePeriodSeconds": 0,
            **({"nodeSelector": {"kubernetes.io/hostname": node}} if node else {}),
        },
    }


SERVICES = [
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8000}], **extra},
    }
    for name, extra in (("web", {}), ("web-pods", {"clusterIP": "None"}))
]


def answer_of(cluster: Access, address: str) -> str:
    return cluster.run(["curl", "-sS", "--max-time", "3", f"http://{address}/hostname"]).strip()


def is_pod_ready(cluster: Access, name: str) -> bool:
    conditions = cluster.get("pod", name)["status"].get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def slice_addresses(cluster: Access) -> list[str]:
    slices = cluster.get("endpointslices", "-l", "kubernetes.io/service-name=web-pods")["items"]
    endpoints = [endpoint for each in slices for endpoint in each.get("endpoints") or []]
    return sorted(a for e in endpoints if e["conditions"].get("ready") for a in e["addresses"])


def test_the_first_node_is_ready_and_starting_again_changes_nothing(cluster: Access) -> None:
    running = command("status")

    command("start")

    assert [node["metadata"]["name"] for node in cluster.get("nodes")["items"]] == ["node1"]
    assert command("status") == running


def test_a_pod_answers_at_an_ip_of_its_own(cluster: Access, base_image: str) -> None:
    cluster.apply(pod("web-1", base_image, node="node1"), *SERVICES)

    eventually(lambda: is_pod_ready(cluster, "web-1"), "pod ready")
    address = cluster.get("pod", "web-1")["status"]["podIP"]

    assert address.startswith("10.78.1.")
    assert answer_of(cluster, f"{address}:8000") == "web-1"
    assert cluster.kubectl("exec", "web-1", "--", "cat", "/etc/hostname").strip() == "web-1"
    assert "GET /hostname" in cluster.kubectl("logs", "web-1")


def test_dns_knows_services_and_their_pods(cluster: Access) -> None:
    service = cluster.get("service", "web")["spec"]["clusterIP"]
    address = cluster.get("pod", "web-1")["status"]["podIP"]

    assert cluster.resolve("web.default.svc.cluster.local") == [service]
    eventually(lambda: cluster.resolve("web-pods.default.svc.cluster.local") == [address], "headless name")
    assert answer_of(cluster, service) == "web-1"


def test_a_pod_reaches_others_by_name_and_nothing_outside(cluster: Access) -> None:
    inside = "import urllib.request as r; print(r.urlopen('http://web/hostname', timeout=5).read().decode())"
    outside = "import socket; print(socket.socket().connect_ex(('192.0.2.1', 443)))"

    assert cluster.kubectl("exec", "web-1", "--", "python3", "-c", inside).strip() == "web-1"
    assert cluster.kubectl("exec", "web-1", "--", "python3", "-c", outside).strip() != "0"


def test_an_image_is_built_from_a_dockerfile_once_and_runs(cluster: Access, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "hello.py").write_text("import iniconfig; print('hello from', iniconfig.__name__)")
    arguments = {"BASE_IMAGE": images.base(PLACE)}

    archive, again = (
        images.build_image(PLACE, "localhost/hello:1", tmp_path / "Dockerfile", tmp_path, arguments) for _ in range(2)
    )
    assert archive == again
    command("load", str(archive), "--node", "node1")
    cluster.apply(pod("hello", "localhost/hello:1", node="node1", argv=["/venv/bin/python", "/hello.py"]))

    eventually(lambda: "hello from iniconfig" in cluster.kubectl("logs", "hello"), "said hello")


def test_ready_pods_appear_in_endpoint_slices(cluster: Access) -> None:
    address = cluster.get("pod", "web-1")["status"]["podIP"]

    eventually(lambda: slice_addresses(cluster) == [address], "endpoint slice")


def test_the_scheduler_counts_gpus(cluster: Access, base_image: str) -> None:
    sleeping = ["python3", "-c", "import time; time.sleep(3600)"]
    cluster.apply(pod("gpu-1", base_image, gpus=3, argv=sleeping))
    eventually(lambda: bool(cluster.get("pod", "gpu-1")["spec"].get("nodeName")), "three of four GPUs taken")
    cluster.apply(pod("gpu-2", base_image, gpus=2, argv=sleeping))

    def refusals() -> list[str]:
        conditions = cluster.get("pod", "gpu-2")["status"].get("conditions", [])
        return [c["message"] for c in conditions if c["type"] == "PodScheduled" and c["status"] == "False"]

    eventually(lambda: any("Insufficient nvidia.com/gpu" in message for message in refusals()), "no GPU left")
    cluster.kubectl("delete", "pod", "gpu-1", "--force", "--grace-period=0")
    eventually(lambda: bool(cluster.get("pod", "gpu-2")["spec"].get("nodeName")), "a freed GPU is taken")


def test_nodes_without_machines_keep_pods_ready(cluster: Access) -> None:
    command("start", "--kwok", "3")
    fake = pod("fake", "nowhere/never:1")
    fake["spec"] |= {"nodeName": "fake-3", "tolerations": [{"operator": "Exists"}]}

    cluster.apply(fake)

    eventually(lambda: is_pod_ready(cluster, "fake"), "pod without a machine ready")
    cluster.kubectl("delete", "pod", "fake")


def test_a_second_node_carries_pods_of_the_same_service(cluster: Access, base_image: str) -> None:
    command("start", "--second-node")
    command("load", str(images.base_archive(PLACE)), "--node", "node2")
    cluster.apply(pod("web-2", base_image, node="node2"))
    eventually(lambda: is_pod_ready(cluster, "web-2"), "pod on the second node ready")
    eventually(lambda: len(slice_addresses(cluster)) == 2, "both in the endpoint slice")

    service = cluster.get("service", "web")["spec"]["clusterIP"]
    seen: set[str] = set()

    def have_both_answered() -> bool:
        seen.add(answer_of(cluster, service))
        return seen == {"web-1", "web-2"}

    eventually(have_both_answered, "both answer")
    from_afar = f"import urllib.request as r; print(r.urlopen('http://{service}/hostname', timeout=5).status)"
    assert cluster.kubectl("exec", "web-2", "--", "python3", "-c", from_afar).strip() == "200"
    assert cluster.get("node", "node2")["status"]["allocatable"]["nvidia.com/gpu"] == "4"


def test_a_killed_node_falls_silent_and_is_noticed(cluster: Access) -> None:
    address = cluster.get("pod", "web-2")["status"]["podIP"]

    command("kill-node", "node2")

    silent = subprocess.run(
        [*cluster.entry, "curl", "-sS", "--max-time", "2", f"http://{address}:8000"], capture_output=True
    )
    assert silent.returncode == 28, "a time-out and no refusal"
    eventually(lambda: not starting.is_ready(cluster, "node2"), "node2 not ready", seconds=120)
    eventually(lambda: len(slice_addresses(cluster)) == 1, "its pod out of the endpoint slice")


def test_a_killed_node_comes_back_from_its_disk(cluster: Access) -> None:
    command("start")

    eventually(lambda: is_pod_ready(cluster, "web-2"), "its pod ready again")
    assert answer_of(cluster, f"{cluster.get('pod', 'web-2')['status']['podIP']}:8000") == "web-2"
    assert cluster.get("node", "node2")["status"]["allocatable"]["nvidia.com/gpu"] == "4"


def test_any_kubeconfig_can_be_given_instead(cluster: Access) -> None:
    given = {access.GIVEN: str(PLACE.kubeconfig)}

    assert "node1" in command("kubectl", "get", "nodes", environment=given, entry=cluster.entry)


def test_stop_leaves_nothing_behind(before: Machine, cluster: Access) -> None:
    command("kill-node", "node2")
    command("stop")

    assert machine() == before
    assert not PLACE.state.exists()
    assert "nothing runs here" in command("stop")


@pytest.mark.parametrize("moment", ["etcd", "kube-apiserver", "containerd-node1", "kubelet-node1", "kubelet-node2"])
def test_a_start_killed_halfway_is_cleaned_up(before: Machine, moment: str) -> None:
    killed_at(moment)

    command("stop")

    assert machine() == before


def test_a_start_killed_halfway_is_mended_by_the_next(before: Machine) -> None:
    killed_at("kubelet-node1")

    command("start", "--second-node")

    assert starting.is_ready(access.from_environment(PLACE), "node2")
    command("stop")
    assert machine() == before


def test_what_bears_our_name_goes_even_without_the_state_file(before: Machine) -> None:
    killed_at("kubelet-node2")
    kept = state.read(PLACE.state_file)
    PLACE.state_file.unlink()

    with pytest.raises(AssertionError, match="remains of an earlier cluster"):
        command("start")
    command("stop")

    after = machine()
    assert (after.namespaces, after.cgroups, after.programs) == (before.namespaces, before.cgroups, before.programs)
    assert not PLACE.state.exists()
    assert kept is not None
    state.write(PLACE.state_file, kept)  # what only the file knew: folders that were not there, values of the kernel
    command("stop")
    assert machine() == before


def killed_at(moment: str) -> None:
    """Kill a start, with no chance to clean up, when it has just started this component."""
    tool = [sys.executable, str(Path(__file__).with_name("cluster.py")), "start", "--second-node"]
    with subprocess.Popen(tool, stdout=subprocess.DEVNULL) as start:

        def is_that_far() -> bool:
            known = state.read(PLACE.state_file)
            return known is not None and known.process(moment) is not None

        waiting.until(is_that_far, what=moment, seconds=60, rest=lambda _: None)
        start.kill()
