"""What a request costs each program in CPU time; they take turns, so that a busy machine disturbs all of them alike."""

import argparse
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import installing
import machine
import measuring
import page
import placement
import quantiles
from installing import NotInstalled, Ours
from measured_process import DidNotStart
from peers import PEERS, NoSuchPeer, Peer, chosen
from running import Ports, Standing, standing
from scenarios import Effort

_PORTS_EACH = 5
_REFERENCE = "haproxy"
PARTS = {
    "json": ("JSON request", "json_c32_cpu_us"),
    "streams": ("short stream, 18 events in one read", "streams_cpu_us"),
    "event": ("event that comes alone, 128 streams", "paced_128_event_cpu_us"),
    "bodies": ("220 KB body", "bodies_cpu_us"),
}

Readings = Mapping[str, Sequence[Mapping[str, float]]]
"""Of each peer, the figures of each turn."""


def main() -> int:
    flags = _parser().parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):
        # An exception, so that everything that was started is ended on the way out.
        signal.signal(number, lambda *_: sys.exit("ended by a signal"))
    try:
        readings = _measure(_peers(flags.peers, flags.beside), _effort(flags.parts, flags.seconds), flags)
    except (NoSuchPeer, NotInstalled, DidNotStart, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    facts = "; ".join(f"{name} {value}" for name, value in machine.facts().items())
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"\n{datetime.now(UTC):%Y-%m-%d %H:%M UTC} · {facts}; load {load}")
    print(f"{shlex.join(['python', 'benchmarks/cpu.py', *sys.argv[1:]])}\n")
    print(report(readings, flags.parts))
    return 0


def report(readings: Readings, parts: Sequence[str]) -> str:
    """For each part and peer the smallest reading, in brackets the median; and the share of the reference per core."""
    others = [name for name in readings if name != _REFERENCE]
    has_reference = _REFERENCE in readings
    head = ["CPU time (µs)", *readings, *(f"{name}: of {_REFERENCE}'s per core" for name in others if has_reference)]
    rows = []
    for part in parts:
        title, figure = PARTS[part]
        seen = {name: [turn[figure] for turn in turns if figure in turn] for name, turns in readings.items()}
        least = {name: (min(values), quantiles.median(values)) for name, values in seen.items() if values}
        row = [title, *(f"{least[name][0]:.1f} ({least[name][1]:.1f})" if name in least else "–" for name in readings)]
        if has_reference:
            row += [_share(least.get(_REFERENCE), least.get(name)) for name in others]
        rows.append(row)
    return page.table(head, rows)


def _share(theirs: tuple[float, float] | None, ours: tuple[float, float] | None) -> str:
    if theirs is None or ours is None:
        return "–"
    return f"{theirs[0] / ours[0]:.0%} ({theirs[1] / ours[1]:.0%})"


def _peers(names: str, beside: Path | None) -> list[Peer]:
    peers = [peer for peer in chosen(names) if peer.start is not None]
    if beside is None:
        return peers
    earlier = Ours(beside.resolve())
    return peers + [
        replace(peer, name=f"{peer.name} of {beside.resolve().name}", source=earlier)
        for peer in peers
        if isinstance(peer.source, Ours)
    ]


def _effort(parts: Sequence[str], seconds: int) -> Effort:
    def given(part: str) -> int:
        return seconds if part in parts else 0

    return Effort(
        rounds=1,
        json={32: seconds} if "json" in parts else {},
        streams=given("streams"),
        bodies=given("bodies"),
        events=0,
        paced={128: float(seconds)} if "event" in parts else {},
        memory=False,
        half=0.0,
        calibrates=False,
    )


def _measure(peers: Sequence[Peer], effort: Effort, flags: argparse.Namespace) -> Readings:
    at = placement.place(sorted(os.sched_getaffinity(0)))
    ports = [Ports(flags.first_port + _PORTS_EACH * number) for number in range(len(peers))]
    if taken := machine.taken([port for each in ports for port in (*each.engines, each.peer, *each.spare)]):
        raise NotInstalled(f"somebody listens on port {taken[0]}: choose other ports by --first-port")
    for tool in installing.LOAD_TOOLS:
        installing.debian(tool)
    programs = [installing.installed(peer.source) for peer in peers]
    readings: dict[str, list[Mapping[str, float]]] = {peer.name: [] for peer in peers}
    with tempfile.TemporaryDirectory(prefix="shoal-cpu-") as scratch, ExitStack() as ends:
        # All of them stand all the time, those whose turn it is not at rest.
        stands: list[Standing] = [
            ends.enter_context(standing(peer, program, at, own, Path(scratch)))
            for peer, program, own in zip(peers, programs, ports, strict=True)
        ]
        for turn in range(flags.turns):
            for stand in stands:
                print(f"turn {turn + 1} of {flags.turns}: {stand.peer.name} …", flush=True)
                folder = Path(scratch) / stand.peer.name
                measured = measuring.Measurer(stand, effort, at, folder).run()
                readings[stand.peer.name].append(measured.values)
                # That the client came late says nothing about CPU time.
                for part, fault in measured.faults.items() if measured.broken else ():
                    print(f"  {part}: {fault}", flush=True)
    return readings


def _parts(text: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if part not in PARTS:
            raise argparse.ArgumentTypeError(f"there is no part {part}; there are {', '.join(PARTS)}")
    return parts


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python benchmarks/cpu.py", description=__doc__)
    others = ", ".join(name for name in PEERS if name != "direct")
    parser.add_argument("--peers", default="haproxy,shoal,shoal-exact", help=f"of {others} (default: %(default)s)")
    parser.add_argument("--parts", type=_parts, default=list(PARTS), help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--turns", type=int, default=6, help="how often each has its turn (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=2, help="for each part of a turn (default: %(default)s)")
    parser.add_argument(
        "--beside", type=Path, metavar="DIR", help="another checkout of ours, measured in turns as well"
    )
    parser.add_argument("--first-port", type=int, default=31450, help="five for each peer (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
