"""`python -m shoal_serving.replica --config FILE`: run one replica until it is drained or dies."""

import os
import signal

if __name__ == "__main__":
    # The first process of a container ignores what it has no handler for. Told to go while it still loads the modules
    # below, it would stay, with its GPU, until its grace period is over.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))

import argparse
import asyncio
import hashlib
import shutil
import sys
import tempfile
import time
from pathlib import Path

from shoal_api.replica_config import ReplicaConfig, Stage
from shoal_api.termination import EXIT_PERMANENT, LastWords
from shoal_serving.replica import config as configuration
from shoal_serving.replica import environment, limits, own_port, process_tree, ranks, source
from shoal_serving.replica.notes import Notebook
from shoal_serving.replica.program import Ending, Program

_DEFAULT_MESSAGE = Path("/dev/termination-log")


def main() -> int:
    arguments = _arguments()
    process_tree.become_subreaper()
    if arguments.end_with_parent:
        process_tree.signal_me_when_parent_dies(signal.SIGTERM)
    try:
        config = configuration.read(arguments.config, os.environ)
    except configuration.BadConfig as error:
        _say(LastWords(str(error), permanent=True), _DEFAULT_MESSAGE)
        return EXIT_PERMANENT
    ending = _run(config, arguments.config)
    if ending.words is not None:
        _say(ending.words, config.termination_message)
    return ending.exit_code


def _run(config: ReplicaConfig, file: Path) -> Ending:
    try:
        config.directory.mkdir(parents=True, exist_ok=True)
        key = configuration.read_model_key(config)
        token = configuration.read_ray_token(config)
        ranks.lay_out(config)
        source.check(config)
    except (configuration.BadConfig, ranks.CannotLayOut, source.BadSource) as error:
        return _give_up(config, LastWords(str(error), permanent=True))
    except OSError as error:
        return _give_up(config, LastWords(f"the directory {config.directory} cannot be made: {error.strerror}", True))
    try:
        if config.rank == 0 and own_port.is_taken(config.host, config.port):
            sentence = (
                f"port {config.port} on {config.host} is taken by another program: end that one or choose another port"
            )
            return _give_up(config, LastWords(sentence, permanent=False))
    except OSError as error:
        sentence = f"the replica cannot listen on {config.host}:{config.port}: {error.strerror}"
        return _give_up(config, LastWords(sentence, permanent=True))
    session = _fresh_session(config.directory)
    variables = environment.compose(config, os.environ, ray_token=token, cpus=limits.cpus(), session=session)
    cluster = [sys.executable, "-m", "shoal_serving.replica.ray_cluster"]
    command = [*cluster, "--config", str(file), "--session", str(session)]
    program = Program(config, key, command, variables, session)
    return asyncio.run(program.run())


def _give_up(config: ReplicaConfig, words: LastWords) -> Ending:
    if config.directory.is_dir():
        Notebook(config.directory, time.time).report(Stage.FAILED, words.sentence)
    return Ending(words)


def _fresh_session(directory: Path) -> Path:
    """An empty folder for Ray, the same for each run of a replica, so that a hard end leaves nothing for long.

    Ray puts sockets into it, whose paths must stay below 108 characters.
    """
    digest = hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:12]
    session = Path(tempfile.gettempdir()) / f"shoal-{digest}"
    shutil.rmtree(session, ignore_errors=True)
    session.mkdir(mode=0o700)
    return session


def _say(words: LastWords, file: Path) -> None:
    print(words.to_text(), file=sys.stderr)
    try:
        file.write_text(words.to_text())
    except OSError as error:
        print(f"the last words could not be written to {file}: {error.strerror}", file=sys.stderr)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m shoal_serving.replica", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the replica's configuration, a JSON file")
    parser.add_argument(
        "--end-with-parent", action="store_true", help="drain and end when the program that started this one is gone"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
