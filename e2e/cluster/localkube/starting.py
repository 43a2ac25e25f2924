"""Bring the cluster up, each step only when it is not yet done: started again, a running cluster is mended."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from localkube import (
    access,
    certificates,
    cgroups,
    components,
    configs,
    images,
    layout,
    leftovers,
    network,
    processes,
    state,
    stopping,
    waiting,
)
from localkube.access import Access
from localkube.binaries import Binaries
from localkube.commands import Refused
from localkube.layout import Layout, Node
from localkube.state import State

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user asks for, beside one node and a control plane."""

    nodes: int = 1
    gpus: int = 0
    fake_nodes: int = 0


@dataclass(slots=True)
class Starting:
    """One run of `start`: what it works with and the state it writes down before each step."""

    place: Layout
    programs: Binaries
    state: State
    tell: Tell

    @property
    def access(self) -> Access:
        return access.to_local(self.place, self.programs)

    def note(self, changed: State) -> None:
        self.state = changed
        state.write(self.place.state_file, changed)

    def component(self, name: str, argv: list[str], node: Node) -> processes.Process:
        """The running component; started when it is not."""
        known = self.state.process(name)
        if known and processes.is_alive(known):
            return known
        process = processes.start(name, argv, node, self.place.logs / f"{name}.log")
        self.note(self.state.with_process(process))
        return process


def start(place: Layout, programs: Binaries, wanted: Wanted, tell: Tell) -> State:
    """Everything that is wanted, up and answering."""
    pause = images.pause(place)
    known = state.read(place.state_file)
    if known is not None and known.stopping:
        steps = stopping.stop_cluster(place, known)
        tell(f"a stop that was killed is finished ({steps} steps)")
        known = None
    going = Starting(place, programs, known or _fresh(place), tell)
    going.note(
        replace(
            going.state, gpus=wanted.gpus or going.state.gpus, fake_nodes=wanted.fake_nodes or going.state.fake_nodes
        )
    )
    nodes = [place.node(index) for index in sorted({*going.state.nodes, *range(1, wanted.nodes + 1)})]
    _step(going, "certificates and configuration", lambda: _write_configs(going, nodes))
    _step(going, "control plane", lambda: _control_plane(going))
    for node in nodes:
        _step(going, f"{node.name} ready", partial(_node, going, node, pause))
    _step(going, "DNS answering", lambda: _dns(going))
    if going.state.gpus:
        _step(going, f"{going.state.gpus} GPUs on each node", lambda: _gpus(going, nodes))
    if going.state.fake_nodes:
        _step(going, f"{going.state.fake_nodes} nodes without machines", lambda: _fake_nodes(going))
    return going.state


def _step(going: Starting, what: str, do: Callable[[], None]) -> None:
    began = time.monotonic()
    do()
    going.tell(f"{what} ({time.monotonic() - began:.1f} s)")


def _fresh(place: Layout) -> State:
    """A state for a cluster that does not exist yet; remains of one that was never ended are refused."""
    remains = leftovers.of_cluster(place, State())
    if stopping.plan(remains):
        raise Refused("remains of an earlier cluster are on this machine; run `cluster.py stop`, then start again")
    return State(
        made=tuple(path for path in leftovers.MADE_ELSEWHERE if not Path(path).exists()),
        sysctls={name: leftovers.sysctl(name) for name in leftovers.CHANGED_SYSCTLS if leftovers.sysctl(name)},
    )


def _write_configs(going: Starting, nodes: list[Node]) -> None:
    place, pki = going.place, going.place.pki
    identities = [*certificates.CONTROL_PLANE, *(certificates.of_node(node) for node in nodes)]
    certificates.issue_all(pki, identities)
    place.configs.mkdir(exist_ok=True)
    authority = (pki / "ca.crt").read_bytes()
    for identity in identities:
        certificate, key = (pki / f"{identity.file}.crt").read_bytes(), (pki / f"{identity.file}.key").read_bytes()
        path = place.kubeconfig if identity.file == "admin" else place.configs / f"{identity.file}.kubeconfig"
        path.write_text(configs.kubeconfig(authority, certificate, key))
        path.chmod(0o600)
    (place.configs / "Corefile").write_text(configs.corefile(f"{place.configs}/coredns.kubeconfig"))
    for node in nodes:
        (node.folder / "cni").mkdir(parents=True, exist_ok=True)
        node.volatile.mkdir(exist_ok=True)
        (node.folder / "cni" / "10-pods.conflist").write_text(configs.cni(node))
        (place.configs / f"containerd-{node.name}.toml").write_text(configs.containerd(node))
        (place.configs / f"kubelet-{node.name}.yaml").write_text(configs.kubelet(node, str(pki)))


def _control_plane(going: Starting) -> None:
    first = going.place.node(1)
    network.make(first)
    commands = components.of_control_plane(going.place, going.programs)
    early = [
        going.component(name, argv, first) for name, argv in commands.items() if name in ("etcd", "kube-apiserver")
    ]
    _wait(going, lambda: going.access.kubectl("get", "--raw", "/readyz") == "ok", "API server", early, 60)
    for name, argv in commands.items():
        going.component(name, argv, first)


def _node(going: Starting, node: Node, pause: Path) -> None:
    commands = components.of_node(going.place, going.programs, node)
    known = [going.state.process(name) for name in commands]
    if node.index > 1 and any(process and not processes.is_alive(process) for process in known):
        stopping.clear_node(node)  # it was killed: what it left in the kernel goes, its disk stays
        node.volatile.mkdir()
    going.note(going.state.with_node(node.index))
    network.make(node)
    cgroups.make(node)
    names = list(commands)
    containerd = going.component(names[0], commands[names[0]], node)
    _wait(going, lambda: bool(images.ctr(node, "version")), f"containerd on {node.name}", [containerd], 30)
    if layout.PAUSE_IMAGE not in images.ctr(node, "images", "list", "-q"):
        images.load(node, pause)
    # A node that was killed a moment ago is still called ready; only word from the new kubelet counts.
    since = None if (running := going.state.process(names[1])) and processes.is_alive(running) else datetime.now(UTC)
    kubelet, proxy = (going.component(name, commands[name], node) for name in names[1:])
    needs = [containerd, kubelet, proxy]
    _wait(going, lambda: is_ready(going.access, node.name, since), f"ready {node.name}", needs, 60)


def is_ready(cluster: Access, node: str, since: datetime | None = None) -> bool:
    """Does the control plane call this node ready, and has it heard so since then?"""
    return ready_in(cluster.get("node", node), since)


def ready_in(node: Mapping[str, Any], since: datetime | None = None) -> bool:
    """Does this Node object say ready, heard from its kubelet since then?"""
    ready = (c for c in node["status"].get("conditions", []) if c["type"] == "Ready" and c["status"] == "True")
    # Kubernetes tells times in whole seconds.
    return any(
        since is None or datetime.fromisoformat(c["lastHeartbeatTime"]) >= since.replace(microsecond=0) for c in ready
    )


def _dns(going: Starting) -> None:
    going.access.apply(*configs.dns_objects())
    dns = going.component("coredns", components.of_dns(going.place, going.programs), going.place.node(1))
    name = f"kubernetes.default.svc.{layout.DOMAIN}"
    known = [layout.API_SERVICE_ADDRESS]
    _wait(going, lambda: going.access.resolve(name) == known, "answer of DNS", [dns], 60)


def _gpus(going: Starting, nodes: list[Node]) -> None:
    for node in nodes:
        patch = configs.gpu_patch(going.state.gpus)
        going.access.kubectl("patch", "node", node.name, "--subresource=status", "--type=json", "-p", patch)


def _fake_nodes(going: Starting) -> None:
    kwok = going.component("kwok", components.of_kwok(going.place, going.programs), going.place.node(1))
    names = [f"fake-{number}" for number in range(1, going.state.fake_nodes + 1)]
    going.access.apply(*(configs.fake_node(name, going.state.gpus) for name in names))
    _wait(going, lambda: is_ready(going.access, names[-1]), f"ready {names[-1]}", [kwok], 60)


def _wait(
    going: Starting, is_so: Callable[[], bool], what: str, needs: list[processes.Process], seconds: float
) -> None:
    waiting.until(is_so, what=what, seconds=seconds, needs=tuple(needs), logs=going.place.logs)


def kill(place: Layout, name: str, *, silently: bool) -> int:
    """Take a node away as a power cut does (silently), or with its kernel still closing connections."""
    known = state.read(place.state_file)
    node = next((place.node(index) for index in (known.nodes if known else ()) if f"node{index}" == name), None)
    if node is None:
        raise Refused(f"no node {name} runs here; `cluster.py status` lists them")
    if node.index == 1:
        raise Refused("the first node carries the control plane; start with --second-node and kill node2")
    if silently:
        network.silence(node)
    return stopping.kill_node(node)
