"""Bring one peer up over two stand-in engines, and take everything down again."""

import secrets
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import placement
import stand_in
from installing import Installed
from measured_process import MeasuredProcess, answers
from peers import Peer, Setting, Start
from stand_in import Pace, StandIn


@dataclass(frozen=True, slots=True)
class Ports:
    """All of them follow one another from `first`."""

    first: int

    @property
    def engines(self) -> tuple[int, int]:
        return self.first, self.first + 1

    @property
    def peer(self) -> int:
        return self.first + 2

    @property
    def spare(self) -> tuple[int, int]:
        return self.first + 3, self.first + 4


@dataclass(slots=True)
class Standing:
    """A peer that serves. For direct there is no process, and `address` is the first engine's."""

    peer: Peer
    address: str
    engines: list[StandIn]
    process: MeasuredProcess | None
    commands: list[list[str]] = field(default_factory=list)

    @property
    def measured(self) -> MeasuredProcess:
        """The process whose cost is the peer's; without a peer the engine's, which is then what is measured."""
        return self.process or self.engines[0].process

    def turn(self, pace: Pace) -> None:
        for engine in self.engines:
            engine.turn(pace)


@contextmanager
def standing(
    peer: Peer, installed: Installed | None, at: placement.Placement, ports: Ports, scratch: Path
) -> Iterator[Standing]:
    """The peer and its engines, from start to end; whatever happens, no process stays."""
    folder = scratch / peer.name
    folder.mkdir(parents=True, exist_ok=True)
    master_key = secrets.token_bytes(32) if peer.behind_hello else None
    with ExitStack() as ends:
        engines = []
        for port, core in zip(ports.engines, at.engines, strict=True):
            engine = StandIn(port, folder, core, master_key=master_key)
            ends.callback(engine.process.stop)
            engines.append(engine)
        for engine in engines:
            engine.wait_until_ready()
        commands = [engine.words for engine in engines]
        if peer.start is None:
            yield Standing(peer, engines[0].address, engines, None, commands)
            return
        if master_key is not None:
            (folder / "master.key").write_text(master_key.hex())
            (folder / "routes.json").write_text(stand_in.route_document(engines, peer.continuation))
        program = installed.program if installed is not None else Path(sys.executable)
        upstreams = (engines[0].address, engines[1].address)
        start = peer.start(Setting(program, folder, ports.peer, ports.spare, upstreams))
        process = _start(start, folder, at.peer)
        ends.callback(process.stop)
        address = f"127.0.0.1:{ports.peer}"
        process.wait_until(lambda: answers(f"http://{address}{peer.ready}"), peer.start_seconds)
        yield Standing(peer, address, engines, process, [*commands, start.words])


def _start(start: Start, folder: Path, core: int) -> MeasuredProcess:
    for name, text in start.files.items():
        (folder / name).write_text(text)
    return MeasuredProcess(placement.pinned(start.words, core), folder / "peer.log", start.env)
