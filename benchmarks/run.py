"""Measure Shoal's gateway and the proxies people would use instead, side by side: `python benchmarks/run.py --help`."""

import argparse
import os
import re
import shlex
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import installing
import machine
import measuring
import outcome
import page
import placement
import plot
import scenarios
from installing import Installed, NotInstalled
from measured_process import DidNotStart
from outcome import Outcome, PeerOutcome
from peers import PEERS, NoSuchPeer, Peer, chosen
from running import Ports, standing
from scenarios import Effort

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs/reference"
_FREE_ENOUGH = 0.95


def main() -> int:
    flags = _parser().parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):
        # An exception, so that everything that was started is ended on the way out.
        signal.signal(number, lambda *_: sys.exit("ended by a signal; nothing was written"))
    try:
        found = outcome.read(flags.read) if flags.read else _measure(flags)
    except (NoSuchPeer, NotInstalled, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"\n{page.tables(found)}\n")
    print("\n".join(page.ratio_lines(found)))
    for name, peer in found.peers.items():
        for fault in [peer.left_out] * bool(peer.left_out) + peer.faults:
            print(f"{name}: {fault}")
    if not flags.read:
        flags.out.mkdir(parents=True, exist_ok=True)
        _write(flags.out / "results.json", found.to_text())
        _write(flags.out / "benchmarks.md", page.page(found))
        _write(flags.out / page.PLOT, plot.svg(found))
    if flags.write_docs:
        _write(DOCS / "benchmarks.json", _without_folders(found.to_text()))
        _write(DOCS / "benchmarks.md", page.page(found))
        _write(DOCS / page.PLOT, plot.svg(found))
    return 1 if any(peer.left_out or peer.broken for peer in found.peers.values()) else 0


def _measure(flags: argparse.Namespace) -> Outcome:
    peers = chosen(flags.peers)
    effort = scenarios.SHORT if flags.short else scenarios.FULL
    rounds = flags.rounds or effort.rounds
    ports = Ports(flags.first_port)
    if taken := machine.taken([*ports.engines, ports.peer, *ports.spare]):
        raise NotInstalled(f"somebody listens on port {taken[0]}: choose other ports by --first-port")
    at = placement.place(sorted(os.sched_getaffinity(0)))
    for tool in installing.LOAD_TOOLS:
        installing.debian(tool)
    found = Outcome(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=shlex.join(["python", "benchmarks/run.py", *sys.argv[1:]]),
        machine=machine.facts(),
        placement=at.words,
        rounds=rounds,
        trust="",
        idle=[],
        short=flags.short,
    )
    programs = _install(peers, found)
    there = [peer for peer in peers if peer.name in programs]
    about = effort.seconds() * len(there) * rounds
    print(f"{at.words}\n{', '.join(peer.name for peer in there)}: {rounds} round(s), about {about / 60:.1f} minutes")
    with tempfile.TemporaryDirectory(prefix="shoal-bench-") as scratch:
        # Rounds outside, peers inside: what the machine does meanwhile falls on all of them alike.
        for number in range(rounds):
            found.idle.append(machine.measure_free_share(1.0))
            if found.idle[-1] < _FREE_ENOUGH:
                print(f"only {found.idle[-1]:.0%} of the machine is free: figures tell little while others use it")
            for peer in there:
                print(f"round {number + 1}: {peer.name} …", flush=True)
                _round(peer, programs[peer.name], effort, at, ports, Path(scratch) / str(number), found)
    return found


def _round(
    peer: Peer,
    installed: Installed | None,
    effort: Effort,
    at: placement.Placement,
    ports: Ports,
    scratch: Path,
    found: Outcome,
) -> None:
    entry = found.peers[peer.name]
    try:
        with standing(peer, installed, at, ports, scratch) as stands:
            for number, words in enumerate(stands.commands):
                entry.commands.setdefault(f"start_{number}", shlex.join(words))
            measurer = measuring.Measurer(stands, effort, at, scratch / peer.name)
            measured = measurer.run()
            if peer.name == "direct" and effort.calibrates and not found.trust:
                found.trust = measuring.calibrate(stands, at).sentence
                print(found.trust, flush=True)
    except DidNotStart as error:
        entry.left_out = f"it did not start: {error}"
        return
    entry.rounds.append(measured.values)
    entry.faults += [f"{part}: {fault}" for part, fault in measured.faults.items()]
    entry.commands |= measured.commands
    entry.broken |= measured.broken


def _install(peers: list[Peer], found: Outcome) -> dict[str, Installed | None]:
    """What can be measured; what cannot be had is named in the results and left out."""
    programs: dict[str, Installed | None] = {}
    for peer in peers:
        entry = found.peers[peer.name] = PeerOutcome(remark=peer.remark)
        try:
            installed = installing.installed(peer.source)
        except NotInstalled as error:
            entry.left_out = str(error)
            continue
        entry.version = installed.version if installed is not None else ""
        programs[peer.name] = installed
    return programs


def _without_folders(text: str) -> str:
    """The commands as anybody could type them: where this machine keeps its files is nobody's business."""
    return re.sub(r'(?<![\w:/])/(?:[^\s"\\/]+/)+', "", text)


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    print(f"wrote {path}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python benchmarks/run.py", description=__doc__)
    parser.add_argument("--peers", default=",".join(PEERS), help="which, comma-separated (default: %(default)s)")
    parser.add_argument("--short", action="store_true", help="one short round, for CI")
    parser.add_argument("--rounds", type=int, default=0, help="more rounds, steadier medians (default: 3, short: 1)")
    parser.add_argument(
        "--out", type=Path, default=Path("dist/benchmarks"), help="folder for results.json, page and plot"
    )
    parser.add_argument("--write-docs", action="store_true", help="also write page, plot and results to docs/reference")
    parser.add_argument("--read", type=Path, help="measure nothing, render an earlier results.json")
    parser.add_argument("--first-port", type=int, default=31400, help="five ports from here on (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
