"""A real Kubernetes on this very machine: build it, start it, load images into it, kill a node of it, stop it."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from localkube import access, binaries, caching, images, layout, machine, our_images, starting, state, stopping
from localkube.commands import Refused
from localkube.layout import Layout
from localkube.processes import is_alive
from localkube.state import State


def parser() -> argparse.ArgumentParser:
    """The commands; each can be repeated without harm."""
    root = argparse.ArgumentParser(prog="cluster.py", description=__doc__)
    commands = root.add_subparsers(dest="command", required=True)

    build = commands.add_parser("build", help="build Kubernetes and its companions (cached) and the images it needs")
    build.add_argument("--without-base", action="store_true", help="leave out the base image for Dockerfiles")

    start = commands.add_parser("start", help="start the cluster, or add to the running one what is asked for")
    start.add_argument("--second-node", action="store_true", help="a second node with its own network and containerd")
    start.add_argument(
        "--gpus", type=_count, default=0, metavar="N", help="let the scheduler count N GPUs on each node"
    )
    start.add_argument(
        "--kwok", type=_count, nargs="?", const=1, default=0, metavar="N", help="N nodes without machines"
    )

    load = commands.add_parser("load", help="put OCI archives into the nodes")
    load.add_argument("archives", nargs="+", type=Path, metavar="IMAGE.tar")
    load.add_argument("--node", help="into this node only (default: all)")

    image = commands.add_parser("image", help="build this project's own images (cached) and tell where they lie")
    image.add_argument(
        "names", nargs="+", choices=sorted(our_images.ALL), metavar="NAME", help=", ".join(our_images.ALL)
    )
    image.add_argument("--load", action="store_true", help="put them into the nodes, too")
    image.add_argument("--node", help="with --load: into this node only (default: all)")

    commands.add_parser("status", help="what runs")
    commands.add_parser("kubectl", help="kubectl for this cluster: every word after it is kubectl's", add_help=False)
    enter = commands.add_parser(
        "enter", help="run a command in the cluster's network, with kubectl and helm on its path"
    )
    enter.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")

    kill = commands.add_parser("kill-node", help="end a node: its kubelet, containerd, shims and containers")
    kill.add_argument("node", help="node2")
    kill.add_argument("--closing", action="store_true", help="let its kernel close connections (default: silence)")

    commands.add_parser("stop", help="end everything and leave nothing behind, also after a start that failed halfway")
    return root


def parsed(words: Sequence[str]) -> argparse.Namespace:
    """The command line as it is meant; what stands behind `kubectl` is not ours to read."""
    if list(words[:1]) != ["kubectl"]:
        return parser().parse_args(words)
    return argparse.Namespace(command="kubectl", words=list(words[1:]))


def main(words: Sequence[str]) -> int:
    """Do what the command line says; a refusal is one sentence."""
    arguments = parsed(words)
    place = layout.from_environment()
    try:
        return _COMMANDS[arguments.command](arguments, place)
    except Refused as refusal:
        _tell(f"cluster.py {arguments.command}: {refusal}", sys.stderr.write)
        return 1


def _build(arguments: argparse.Namespace, place: Layout) -> int:
    began = time.monotonic()
    machine.require({**machine.PACKAGES, **machine.IMAGE_PACKAGES})
    programs = binaries.build(place.cache)
    _tell(f"programs built ({time.monotonic() - began:.0f} s, {binaries.size_of(programs)})")
    images.pause(place)
    if not arguments.without_base:
        _tell(f"base image {images.base(place)} ({time.monotonic() - began:.0f} s)")
    return 0


def _start(arguments: argparse.Namespace, place: Layout) -> int:
    machine.require(machine.PACKAGES)
    programs = binaries.built(place.cache)
    wanted = starting.Wanted(nodes=2 if arguments.second_node else 1, gpus=arguments.gpus, fake_nodes=arguments.kwok)
    with caching.locked(place.cache / "cluster.lock"):
        starting.start(place, programs, wanted, _tell)
    _tell(f"kubeconfig: {place.kubeconfig} (reachable only inside: cluster.py enter COMMAND …)")
    return 0


def _load(arguments: argparse.Namespace, place: Layout) -> int:
    _load_into(place, arguments.node, arguments.archives)
    return 0


def _image(arguments: argparse.Namespace, place: Layout) -> int:
    machine.install(machine.packages_missing(machine.IMAGE_PACKAGES, machine.present))
    for name in arguments.names:
        began = time.monotonic()
        archive = our_images.archive(place, name)
        _tell(f"{our_images.ALL[name].name} is {archive} ({time.monotonic() - began:.1f} s)")
        if arguments.load:
            _load_into(place, arguments.node, [archive])
    return 0


def _load_into(place: Layout, name: str | None, archives: Sequence[Path]) -> None:
    running = _running(place)
    nodes = [node for index in running.nodes if name in (None, (node := place.node(index)).name)]
    if not nodes:
        raise Refused(f"no node {name} runs here; `cluster.py status` lists them")
    for archive in archives:
        for node in nodes:
            began = time.monotonic()
            images.load(node, archive)
            _tell(f"{archive.name} loaded into {node.name} ({time.monotonic() - began:.1f} s)")


def _status(_: argparse.Namespace, place: Layout) -> int:
    running = _running(place)
    for process in running.processes:
        _tell(f"{process.name:32} {process.pid:>8}  {'running' if is_alive(process) else 'ended'}")
    _tell(f"kubeconfig: {place.kubeconfig}")
    _tell(f"logs: {place.logs}")
    return 0 if all(is_alive(process) for process in running.processes) else 1


def _kubectl(arguments: argparse.Namespace, place: Layout) -> int:
    return _replace_by(place, ["kubectl", *arguments.words])


def _enter(arguments: argparse.Namespace, place: Layout) -> int:
    words = arguments.words[1:] if arguments.words[:1] == ["--"] else arguments.words
    return _replace_by(place, words or [os.environ.get("SHELL", "/bin/sh")])


def _replace_by(place: Layout, words: list[str]) -> int:
    cluster = access.from_environment(place)
    command = [*cluster.entry, *words]
    environment = {**os.environ, **cluster.environment}
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606 — the command takes our place, its exit code is ours
    except FileNotFoundError as missing:
        raise Refused(f"the command {command[0]!r} is missing") from missing


def _kill_node(arguments: argparse.Namespace, place: Layout) -> int:
    ended = starting.kill(place, arguments.node, silently=not arguments.closing)
    _tell(f"{arguments.node} is dead ({ended} processes); `start --second-node` brings it back")
    return 0


def _stop(_: argparse.Namespace, place: Layout) -> int:
    if os.geteuid() != 0:
        raise Refused("a cluster is stopped by root, who started it")
    with caching.locked(place.cache / "cluster.lock"):
        try:
            known = state.read(place.state_file) or State()
        except Refused as damaged:
            _tell(f"{damaged}; stopping by names alone")
            known = State()
        began = time.monotonic()
        steps = stopping.stop_cluster(place, known)
    _tell(f"stopped in {steps} steps ({time.monotonic() - began:.1f} s)" if steps else "nothing runs here")
    return 0


_COMMANDS: dict[str, Callable[[argparse.Namespace, Layout], int]] = {
    "build": _build,
    "start": _start,
    "load": _load,
    "image": _image,
    "status": _status,
    "kubectl": _kubectl,
    "enter": _enter,
    "kill-node": _kill_node,
    "stop": _stop,
}


def _running(place: Layout) -> State:
    known = state.read(place.state_file)
    if known is None:
        raise Refused("no cluster runs here; run `python e2e/cluster/cluster.py start`")
    if os.geteuid() != 0:
        raise Refused("the cluster on this machine is root's; run this as root")
    return known


def _count(word: str) -> int:
    if not word.isdecimal():
        raise argparse.ArgumentTypeError(f"{word!r} is not a number of 0 or more")
    return int(word)


def _tell(line: str, write: Callable[[str], object] = sys.stdout.write) -> None:
    write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
