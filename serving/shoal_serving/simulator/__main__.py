"""`python -m shoal_serving.simulator --config FILE`: a stand-in for the replica program and its engine.

With `--open --listen HOST:PORT` it needs no configuration and lets everybody in: a plain engine for benchmarks."""

import os
import signal

if __name__ == "__main__":
    # The first process of a container ignores what it has no handler for. Told to go while it still loads the modules
    # below, it would stay, with its GPU, until its grace period is over.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

import uvloop

from shoal_api.replica_config import ReplicaConfig
from shoal_api.termination import EXIT_PERMANENT, LastWords
from shoal_serving.replica.config import BadConfig, read, read_model_key
from shoal_serving.simulator import knobs as knob_reading
from shoal_serving.simulator.control import read_faults
from shoal_serving.simulator.knobs import BadKnob, Knobs
from shoal_serving.simulator.model import Model
from shoal_serving.simulator.program import Place, Program, write_last_words


def main() -> int:
    options = _parser().parse_args()
    if options.open:
        return _run_open(options)
    if options.config is None:
        print("give --config FILE, or --open --listen HOST:PORT", file=sys.stderr)
        return EXIT_PERMANENT
    return _run_as_replica(options)


def _run_open(options: argparse.Namespace) -> int:
    try:
        knobs = _knobs(Knobs(), options.simulate)
        place = _place("--listen", options.listen)
        control = _place("--control", options.control) if options.control else None
    except BadKnob as error:
        print(error, file=sys.stderr)
        return EXIT_PERMANENT
    model = Model(options.model, options.model, knobs)
    return uvloop.run(_program(model, place, control, None, b""))


def _run_as_replica(options: argparse.Namespace) -> int:
    config: ReplicaConfig | None = None
    try:
        config = read(options.config, os.environ)
        key = read_model_key(config)
        knobs = _knobs(knob_reading.from_engine_args(Knobs(any_model=True), config.args), options.simulate)
        control = _place("--control", options.control) if options.control else None
        config.directory.mkdir(parents=True, exist_ok=True)
    except (BadConfig, BadKnob) as error:
        words = LastWords(str(error), permanent=True)
        print(words.to_text(), flush=True)
        if config is not None:
            write_last_words(config.termination_message, words)
        return EXIT_PERMANENT
    model = Model(config.served_name, config.source, knobs)
    return uvloop.run(_program(model, Place(config.host, config.port), control, config, key))


async def _program(model: Model, place: Place, control: Place | None, config: ReplicaConfig | None, key: bytes) -> int:
    return await Program(model, place, control, config).run(key)


def _knobs(knobs: Knobs, flags: list[str]) -> Knobs:
    turned = knob_reading.from_flags(knobs, flags)
    read_faults(turned.faults)
    return turned


def _place(flag: str, text: str) -> Place:
    try:
        return Place.parse(text)
    except ValueError:
        raise BadKnob(f"{flag} must be HOST:PORT, not {text}") from None


def _knob_list() -> str:
    values = asdict(Knobs()).items()
    return "Knobs: " + ", ".join(f"{name.replace('_', '-')}={value}" for name, value in values)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m shoal_serving.simulator", description=__doc__, epilog=_knob_list())
    parser.add_argument("--config", type=Path, help="the replica's configuration, as the real replica gets it")
    parser.add_argument("--simulate", action="append", default=[], metavar="KEY=VALUE", help="turn a knob; repeatable")
    parser.add_argument("--control", default="", metavar="HOST:PORT", help="a second port that no fault reaches")
    parser.add_argument("--open", action="store_true", help="no configuration, no hello, no MAC")
    parser.add_argument("--listen", default="127.0.0.1:8000", metavar="HOST:PORT", help="with --open")
    parser.add_argument("--model", default="simulated", help="with --open: the served name")
    return parser


if __name__ == "__main__":
    sys.exit(main())
