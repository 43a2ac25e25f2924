"""The `shoal` command: reads arguments and environment, and calls what does the work."""

import argparse
import asyncio
import importlib.metadata
import importlib.util
import json
import logging
import os
import random
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

import shoal_api
from shoal_api.keys import EVERY_MODEL, Priority
from shoal_api.load import LOAD_PATH, LoadMessage
from shoal_api.modeldeployment import ModelDeployment
from shoal_api.termination import LastWords
from shoal_operator import (
    cluster_flags,
    engines,
    keeper,
    keys,
    machine,
    manifests,
    operator_settings,
    probe,
    rollout_cli,
    settings,
    status_file,
    telling,
)
from shoal_operator.api_faults import NotThere
from shoal_operator.blueprint import Blueprint
from shoal_operator.engines import CannotInstall, Variant
from shoal_operator.gateway_process import HOST, GatewayProcess
from shoal_operator.local import CannotServe, Local
from shoal_operator.manifests import Refused
from shoal_operator.processes import Means, Processes
from shoal_operator.run_directory import InUse, RunDirectory
from shoal_operator.settings import BadSettings, Settings
from shoal_operator.status_report import UpReport

_GATEWAY_HOLDS_SECONDS = 5
"""How long a stopping gateway goes on serving requests that wait; those that run are finished in any case."""
_LOAD_TIMEOUT_SECONDS = 2.0
_SERVING = "shoal_serving"


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status of `shoal ARGUMENTS`."""
    given = _parser().parse_args(arguments)
    try:
        return int(given.run(given, os.environ))
    except (BadSettings, CannotInstall, CannotServe, NotThere, Refused) as error:
        for sentence in str(error).splitlines():
            _complain(sentence)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="shoal", description="Serve language models behind one OpenAI-compatible address."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

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
    up.set_defaults(run=_up)

    operator = commands.add_parser(
        "operator",
        help="serve the ModelDeployments of a cluster",
        description="Serve the ModelDeployments of a cluster, while holding the Lease. Every flag can also be given as "
        "an environment variable: --lease-name as SHOAL_OPERATOR_LEASE_NAME.",
    )
    operator_settings.add_flags(operator)
    operator.set_defaults(run=_operator)

    engine = commands.add_parser("engine", help="the engine's own environment (vLLM and Ray)")
    engine_commands = engine.add_subparsers(required=True, metavar="COMMAND")
    install = engine_commands.add_parser(
        "install",
        help="make the environment that engines run in",
        description="Make the environment that engines run in, below SHOAL_HOME (default ~/.local/share/shoal). "
        "Without a flag: for GPUs where this machine has one, else for the CPU.",
    )
    _add_variant(install)
    install.add_argument("--force", action="store_true", help="make it anew even if it is there")
    install.set_defaults(run=_install)
    python = engine_commands.add_parser("python", help="print the path of that environment's interpreter")
    _add_variant(python)
    python.set_defaults(run=_engine_python)

    key = commands.add_parser("key", help="API keys")
    key_commands = key.add_subparsers(required=True, metavar="COMMAND")
    new = key_commands.add_parser(
        "new",
        help="make an API key",
        description="Make an API key. Its entry for the keys file goes to standard output, the key itself to standard "
        "error, this once: shoal key new alice --models llama >> keys.yaml",
    )
    new.add_argument("name", metavar="NAME", help="whose key it is; stands in the gateway's access log")
    new.add_argument(
        "--models",
        default=EVERY_MODEL,
        metavar="NAME,NAME",
        help="names of the models that may be asked for (default: every model)",
    )
    new.add_argument(
        "--priority",
        choices=get_args(Priority),
        default="normal",
        help="how soon its requests have a turn where several wait (default: normal)",
    )
    new.set_defaults(run=_new_key)

    cluster_flags.add_status(commands, _status)
    cluster_flags.add_logs(commands, _logs)
    cluster_flags.add_doctor(commands, _doctor)
    rollout_cli.add(commands, _say)

    version = commands.add_parser("version", help="the version of Shoal")
    version.set_defaults(run=_version)
    return parser


def _add_variant(parser: argparse.ArgumentParser) -> None:
    variant = parser.add_mutually_exclusive_group()
    variant.add_argument("--cpu", dest="variant", action="store_const", const="cpu", help="vLLM for the CPU")
    variant.add_argument("--gpu", dest="variant", action="store_const", const="gpu", help="vLLM for NVIDIA GPUs")


def _variant(given: argparse.Namespace, environment: Mapping[str, str]) -> Variant:
    """The one asked for, else by what this machine has."""
    asked: Variant | None = given.variant
    return asked or ("gpu" if machine.gpus(environment) else "cpu")


def _version(_given: argparse.Namespace, _environment: Mapping[str, str]) -> int:
    _say(importlib.metadata.version("shoal"))
    return 0


def _install(given: argparse.Namespace, environment: Mapping[str, str]) -> int:
    variant = _variant(given, environment)
    engines.install(settings.home(environment), variant, force=given.force, say=_say)
    return 0


def _engine_python(given: argparse.Namespace, environment: Mapping[str, str]) -> int:
    variant = _variant(given, environment)
    python = engines.python(settings.home(environment), variant, environment)
    if python is None:
        raise CannotInstall(engines.missing_sentence(variant, environment))
    _say(str(python))
    return 0


def _new_key(given: argparse.Namespace, _environment: Mapping[str, str]) -> int:
    made = keys.new(given.name, [name.strip() for name in given.models.split(",")], given.priority)
    print(f"the key of {given.name}, shown this once: {made.key}", file=sys.stderr, flush=True)
    _say(made.entry.rstrip())
    return 0


def _status(given: argparse.Namespace, environment: Mapping[str, str]) -> int:
    if cluster_flags.asks_a_cluster(given):
        from shoal_operator import cluster_commands

        namespace = None if given.all_namespaces or not given.namespace else given.namespace
        return cluster_commands.status(given.kubeconfig, namespace, _say)
    running, dead = status_file.read_all(settings.runs(settings.home(environment)))
    loads = [_load(report) for report in running]
    if given.json:
        facts = [
            report.model_dump(mode="json", by_alias=True)
            | {"load": load.model_dump(mode="json", by_alias=True) if load else None}
            for report, load in zip(running, loads, strict=True)
        ]
        _say(json.dumps({"running": facts, "dead": [str(folder) for folder in dead]}, indent=2))
    else:
        now = datetime.now(UTC)
        for report, load in zip(running, loads, strict=True):
            _say("\n".join(telling.describe(report, load, now)))
        for folder in dead:
            _say(f"a `shoal up` ended without clearing up; its logs are in {folder / 'logs'}")
        if not running:
            _say("no `shoal up` is running; start one with: shoal up -f model.yaml (for a cluster: shoal status -A)")
    return 0 if running else 1


def _logs(given: argparse.Namespace, environment: Mapping[str, str]) -> int:
    namespace, name = cluster_flags.model(given)
    running, _ = status_file.read_all(settings.runs(settings.home(environment)))
    files = [
        replica.log
        for report in running
        for model in report.models
        for replica in model.replicas
        if model.id == f"{namespace}/{name}"
    ]
    if files and given.kubeconfig is None:
        for file in files:
            _say(f"==> {file}")
            _say("\n".join(status_file.last_lines(Path(file), given.tail)))
        return 0
    from shoal_operator import cluster_commands

    return cluster_commands.logs(
        given.kubeconfig,
        namespace,
        name,
        follow=given.follow,
        tail=given.tail,
        previous=given.previous,
        say=_say,
    )


def _doctor(given: argparse.Namespace, _environment: Mapping[str, str]) -> int:
    from shoal_operator import cluster_commands

    return cluster_commands.doctor(given.kubeconfig, given.namespace, _say)


def _load(report: UpReport) -> LoadMessage | None:
    answer = probe.get(HOST, report.gateway.internal_port, LOAD_PATH, _LOAD_TIMEOUT_SECONDS)
    if answer is None or answer.status != 200:
        return None
    try:
        return LoadMessage.model_validate_json(answer.body)
    except ValidationError:  # something else has that port by now
        return None


def _up(given: argparse.Namespace, environment: Mapping[str, str]) -> int:
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
        asyncio.run(_serve(chosen, run, models, watch, environment))
    return 0


def _operator(given: argparse.Namespace, environment: Mapping[str, str]) -> int:
    chosen = operator_settings.read(given, environment, os.getpid())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("kopf").setLevel(logging.WARNING)
    from shoal_operator import operator_program

    asyncio.run(operator_program.run(chosen))
    return 0


async def _serve(
    chosen: Settings,
    run: RunDirectory,
    models: list[ModelDeployment],
    watch: manifests.Watch,
    environment: Mapping[str, str],
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
    local = Local(chosen, run, world, gateway, pid=os.getpid(), clock=lambda: datetime.now(UTC), say=_say)
    await local.serve(models, watch)


def _replica_command(
    chosen: Settings, blueprint: Blueprint, environment: Mapping[str, str]
) -> Sequence[str] | LastWords:
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


def _say(text: str) -> None:
    print(text, flush=True)


def _complain(sentence: str) -> None:
    print(f"error: {sentence}", file=sys.stderr, flush=True)
