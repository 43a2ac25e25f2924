"""Where a replica's start goes, and what a change of it saves: variants started in turns, real vLLM on the CPU.

`python benchmarks/cold_start.py --model /tmp/shoal-models/tiny-llama --rounds 3 --variant plain
--variant without-bytecode:PYTHONPYCACHEPREFIX=/nowhere`. A variant is `NAME[@CHECKOUT][:VARIABLE=VALUE,…]`: the same
replica program of this checkout or another one, with these variables (`{home}` in a value: a folder that is new at each
start). `SHOAL_ENGINE_PYTHON` names the engine's Python.
"""

import argparse
import json
import os
import secrets
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shoal_api.replica_config import REPORT_FILE, ReplicaConfig, Report, Stage
from shoal_serving.replica import process_tree

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 400.0
END_SECONDS = 60.0
STAGES = {
    Stage.RAY: "program",
    Stage.IMPORTS: "Ray and Serve",
    Stage.ENGINE: "imports",
    Stage.SELF_TEST: "engine",
    Stage.READY: "self-test",
}
"""By the stage that begins when it ends: what took the time."""
_TICKS = os.sysconf("SC_CLK_TCK")
_NAMES = (
    "ServeController",
    "ServeReplica",
    "EngineCore",
    "Worker",
    "forkserver",
    "gcs_server",
    "raylet/raylet",
    "agent",
)


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to start a replica."""

    name: str
    checkout: Path = ROOT
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Start:
    """One start: seconds by what took them, and seconds of computing by process."""

    seconds: Mapping[str, float]
    cpu_seconds: Mapping[str, float]

    @property
    def whole(self) -> float:
        return sum(self.seconds.values())


def variant(text: str) -> Variant:
    """`NAME[@CHECKOUT][:VARIABLE=VALUE,…]`."""
    head, _, pairs = text.partition(":")
    name, _, checkout = head.partition("@")
    variables = dict(pair.split("=", 1) for pair in pairs.split(",") if pair)
    return Variant(name, Path(checkout).resolve() if checkout else ROOT, variables)


def start_once(chosen: Variant, python: str, model: Path, arguments: Sequence[str]) -> Start:
    """Until it is ready; nothing of it is left when this returns."""
    with tempfile.TemporaryDirectory(prefix="shoal-cold-") as folder:
        home = Path(folder)
        with (home / "output").open("wb") as output:
            began = time.time()
            program = subprocess.Popen(
                [python, "-m", "shoal_serving.replica", "--config", str(_config(home, model, arguments))],
                env={**os.environ, **_paths(chosen.checkout), **_variables(chosen, home)},
                stdout=output,
                stderr=output,
                cwd=home,
            )
        try:
            reports = _reports_until_ready(program, home)
            cpu = _cpu_seconds(program.pid)
        finally:
            program.send_signal(signal.SIGTERM)
            program.wait(END_SECONDS)
    moments = [began, *(report.at for report in reports)]
    pairs = zip(moments, moments[1:], reports, strict=False)
    return Start({STAGES[report.stage]: end - begin for begin, end, report in pairs}, cpu)


def _config(home: Path, model: Path, arguments: Sequence[str]) -> Path:
    (home / "key").write_text(secrets.token_hex(32))
    (home / "token").write_text(secrets.token_hex(16))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    config = ReplicaConfig(
        model=f"default/{model.name}",
        replica=f"{model.name}-0",
        replica_uid="uid-0",
        revision="r1",
        served_name=model.name,
        source=str(model),
        args=list(arguments),
        host="127.0.0.1",
        port=port,
        settle_seconds=0,
        model_key_file=home / "key",
        ray_token_file=home / "token",
        directory=home / "work",
        termination_message=home / "last-words",
    )
    file = home / "config.json"
    file.write_text(config.model_dump_json(by_alias=True))
    return file


def _variables(chosen: Variant, home: Path) -> dict[str, str]:
    return {name: value.replace("{home}", str(home)) for name, value in chosen.variables.items()}


def _paths(checkout: Path) -> dict[str, str]:
    return {"PYTHONPATH": f"{checkout / 'crds'}:{checkout / 'serving'}"}


def _reports_until_ready(program: subprocess.Popen[bytes], home: Path) -> list[Report]:
    file, deadline = home / "work" / REPORT_FILE, time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and program.poll() is None:
        lines = file.read_text().splitlines() if file.exists() else []
        reports = [Report.model_validate_json(line) for line in lines]
        if reports and reports[-1].stage is Stage.READY:
            return reports
        time.sleep(0.2)
    raise SystemExit(f"it did not become ready:\n{(home / 'output').read_text()[-3000:]}")


def _cpu_seconds(root: int) -> dict[str, float]:
    """What each process below has used so far; of those that ended, what their parent knows."""
    used: dict[str, float] = defaultdict(float)
    for pid in [root, *(process.pid for process in process_tree.descendants(root))]:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            line = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        used[_name(line)] += sum(map(int, fields[11:13])) / _TICKS
        used["ended ones"] += sum(map(int, fields[13:15])) / _TICKS
    return used


def _name(line: str) -> str:
    for name in _NAMES:
        if name in line:
            return name.rpartition("/")[2]
    words = line.split()
    return next((word.rpartition(".")[2] for word in words if "shoal_serving" in word), words[0] if words else "?")


def evict(model: Path) -> None:
    """Let go of what is in memory of a model's files, as on a machine that never read them."""
    for file in model.iterdir():
        if file.is_file():
            with file.open("rb") as stream:
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def table(starts: Mapping[str, Sequence[Start]]) -> str:
    """Medians by variant."""
    parts = list(STAGES.values())
    lines = [
        f"| variant (starts) | {' | '.join(parts)} | in all (each) | computing |",
        "|---|" + "---|" * (len(parts) + 2),
    ]
    for name, of_it in starts.items():
        cells = [f"{statistics.median(one.seconds[part] for one in of_it):.1f}" for part in parts]
        each = ", ".join(f"{one.whole:.1f}" for one in of_it)
        computing = statistics.median(sum(one.cpu_seconds.values()) for one in of_it)
        whole = statistics.median(one.whole for one in of_it)
        lines.append(f"| {name} ({len(of_it)}) | {' | '.join(cells)} | {whole:.1f} ({each}) | {computing:.0f} |")
    return "\n".join(lines)


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a model's folder")
    parser.add_argument("--args", default="", help="arguments of the engine, as in a shell")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--variant", type=variant, action="append", required=True, metavar="NAME[@CHECKOUT][:VAR=VALUE,…]"
    )
    parser.add_argument("--evict", action="store_true", help="the model's files are not in memory when a start begins")
    parser.add_argument("--out", type=Path, help="every start, as JSON lines")
    options = parser.parse_args(words)
    python = os.environ["SHOAL_ENGINE_PYTHON"]
    starts: dict[str, list[Start]] = {chosen.name: [] for chosen in options.variant}
    for number in range(options.rounds):
        for chosen in options.variant[:: 1 if number % 2 == 0 else -1]:
            if options.evict:
                evict(options.model)
            found = start_once(chosen, python, options.model, shlex.split(options.args))
            starts[chosen.name].append(found)
            line = {"variant": chosen.name, "seconds": found.seconds, "cpu": found.cpu_seconds}
            print(json.dumps(line), file=sys.stderr, flush=True)
            if options.out:
                with options.out.open("a") as out:
                    out.write(json.dumps(line) + "\n")
    print(table(starts))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
