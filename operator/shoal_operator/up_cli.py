"""`shoal up`: its flags, what is checked before anything starts, and the programs that it starts."""

import argparse
import asyncio
import importlib.util
import os
import random
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import shoal_api
from shoal_api.modeldeployment import ModelDeployment
from shoal_api.termination import LastWords
from shoal_operator import engines, keeper, keys, machine, manifests, settings
from shoal_operator.blueprint import Blueprint
from shoal_operator.engines import Variant
from shoal_operator.flags import Commands, Environment, Say
from shoal_operator.gateway_process import HOST, GatewayProcess
from shoal_operator.local import Local
from shoal_operator.processes import Means, Processes
from shoal_operator.run_directory import InUse, RunDirectory
from shoal_operator.settings import BadSettings, Settings

_GATEWAY_HOLDS_SECONDS = 5
"""How long a stopping gateway goes on serving requests that wait; those that run are finished in any case."""
_SERVING = "shoal_serving"


def add(commands: Commands, say: Say) -> None:
    """The command."""
    up = commands.add_parser(
        "up",
        help="serve the models of one or more manifests on this machine, until Ctrl-C",
        description="Serve the models of one or more manifests on this machine, until Ctrl-C. Edits of the files are "
        "carried out while it runs: models come and go, `replicas` changes, new engine flags start a new revision.",
    )
    up.add_argument(
        "-f",
        "--file",
        dest="files",
        action="append",
        required=True,
        type=Path,
        metavar="FILE",
        help="YAML file with ModelDeployments; may be given several times",
    )
    up.add_argument(
        "--listen",
        default="127.0.0.1:8000",
        metavar="HOST:PORT",
        help="address for clients (default %(default)s: this machine only)",
    )
    up.add_argument(
        "--allow-anonymous",
        action="store_true",
        help="let --listen be an address that other machines reach; nobody is asked for a key",
    )
    up.add_argument(
        "--keys-file",
        type=Path,
        metavar="FILE",
        help="ask every client for an API key: entries made by `shoal key new`, read again when the file changes",
    )
    up.add_argument(
        "--simulator", action="store_true", help="run a stand-in instead of the engine: no weights, no GPU, no waiting"
    )
    up.set_defaults(run=lambda given, environment: _up(given, environment, say))


def _up(given: argparse.Namespace, environment: Environment, say: Say) -> int:
    host, port = settings.listen(given.listen)
    chosen = Settings(
        manifests=tuple(file.absolute() for file in given.files),
        host=host,
        port=port,
        home=settings.home(environment),
        replica_ports=settings.replica_ports(environment),
        simulator=given.simulator,
        allow_anonymous=given.allow_anonymous,
        keys_file=given.keys_file.absolute() if given.keys_file else None,
    )
    _check_keys(chosen)
    watch = manifests.Watch(chosen.manifests)
    models = manifests.read(chosen.manifests)
    try:
        run = RunDirectory(chosen.run_root)
    except InUse as error:
        raise BadSettings(
            f"--listen {given.listen}: another `shoal up` serves on port {port}; stop it, or give another port"
        ) from error
    with run:
        _check_address(chosen)
        _link_packages(run.python_path)
        asyncio.run(_serve(chosen, run, models, watch, environment, say))
    return 0


async def _serve(
    chosen: Settings,
    run: RunDirectory,
    models: list[ModelDeployment],
    watch: manifests.Watch,
    environment: Environment,
    say: Say,
) -> None:
    keeper.become_subreaper()
    chance = random.Random()  # noqa: S311  (spreads ports; guards nothing)
    internal = machine.free_port(HOST, chosen.replica_ports, chance)
    means = Means(
        command=lambda blueprint: _replica_command(chosen, blueprint, environment),
        environment=environment,
        ports=[port for port in chosen.replica_ports if port != internal],
        gpus=machine.gpus(environment),
        counts_resources=not chosen.simulator,
    )
    gateway = GatewayProcess(
        _gateway_command(chosen, run, internal), internal, environment, run.root, run.logs / "gateway.log"
    )
    world = Processes(run, means, chance)
    local = Local(chosen, run, world, gateway, pid=os.getpid(), clock=lambda: datetime.now(UTC), say=say)
    await local.serve(models, watch)


def _replica_command(chosen: Settings, blueprint: Blueprint, environment: Environment) -> Sequence[str] | LastWords:
    """The program that runs this blueprint; it is looked up each time, so an engine installed meanwhile is found."""
    if chosen.simulator:
        return (sys.executable, "-m", f"{_SERVING}.simulator")
    variant: Variant = "gpu" if blueprint.gpus else "cpu"
    python = engines.python(chosen.home, variant, environment)
    if python is None:
        return LastWords(engines.missing_sentence(variant, environment), permanent=True)
    return (str(python), "-m", f"{_SERVING}.replica")


def _gateway_command(chosen: Settings, run: RunDirectory, internal_port: int) -> list[str]:
    command = [sys.executable, "-m", f"{_SERVING}.gateway", "--routes", str(run.routes_file)]
    command += ["--master-key-file", str(run.master_key_file)]
    command += ["--listen", chosen.address, "--internal", f"{HOST}:{internal_port}"]
    command += ["--drain-seconds", str(_GATEWAY_HOLDS_SECONDS)]
    if chosen.keys_file is not None:
        command += ["--keys-file", str(chosen.keys_file)]
    return [*command, "--allow-anonymous"] if chosen.allow_anonymous else command


def _check_keys(chosen: Settings) -> None:
    if chosen.keys_file is None:
        return
    if chosen.allow_anonymous:
        raise BadSettings("--allow-anonymous: with --keys-file everybody is asked for a key; give one of the two")
    keys.check(chosen.keys_file)


def _check_address(chosen: Settings) -> None:
    flag = f"--listen {chosen.address}"
    is_open = chosen.allow_anonymous or chosen.keys_file is not None
    if not is_open and chosen.host not in ("localhost", "::1") and not chosen.host.startswith("127."):
        raise BadSettings(
            f"{flag}: other machines can reach this address and nobody is asked for a key; "
            "listen on 127.0.0.1, name the keys with --keys-file, or add --allow-anonymous"
        )
    try:
        free = machine.is_free(chosen.host, chosen.port)
    except OSError as error:
        raise BadSettings(f"{flag}: cannot be used ({error.strerror}); give another address") from error
    if not free:
        raise BadSettings(f"{flag}: another program listens there; stop it, or give another port")


def _link_packages(folder: Path) -> None:
    """Our packages for the engine's interpreter, without anything else of this environment."""
    serving = importlib.util.find_spec(_SERVING)
    if serving is None or not serving.submodule_search_locations:
        raise BadSettings(f"the package {_SERVING} is missing; install Shoal anew")
    for package in (Path(shoal_api.__file__).parent, Path(serving.submodule_search_locations[0])):
        (folder / package.name).symlink_to(package)
