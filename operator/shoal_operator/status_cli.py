"""`shoal status`, `logs` and `doctor`: their flags, and whether a cluster or a running `shoal up` is asked."""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from shoal_api.load import LOAD_PATH, LoadMessage
from shoal_operator import flags, probe, status_file, telling
from shoal_operator.flags import Commands, Environment, Say
from shoal_operator.gateway_process import HOST
from shoal_operator.status_report import UpReport

_LOAD_TIMEOUT_SECONDS = 2.0


def add(commands: Commands, say: Say) -> None:
    """The three commands."""
    status = commands.add_parser(
        "status",
        help="what is served, and how it is",
        description="What every running `shoal up` of this user serves, and how it is; with one of -n, -A and "
        "--kubeconfig, the models of a cluster.",
    )
    status.add_argument("--json", action="store_true", help="as JSON (this machine only; for a cluster use kubectl)")
    status.add_argument("-n", "--namespace", default="", help="the models of this namespace of a cluster")
    status.add_argument("-A", "--all-namespaces", action="store_true", help="the models of all namespaces")
    flags.add_kubeconfig(status)
    status.set_defaults(run=lambda given, environment: _status(given, environment, say))

    logs = commands.add_parser(
        "logs",
        help="what the replicas of a model print",
        description="What the replicas of a model print, on a cluster or, where a `shoal up` of this user serves the "
        "model, on this machine.",
    )
    logs.add_argument("-f", "--follow", action="store_true", help="on a cluster: go on as long as they run")
    logs.add_argument("--tail", type=_count, default=100, metavar="LINES", help="of each replica (default %(default)s)")
    logs.add_argument("--previous", action="store_true", help="on a cluster: of the run before, which ended")
    flags.add_model(logs)
    logs.set_defaults(run=lambda given, environment: _logs(given, environment, say))

    doctor = commands.add_parser(
        "doctor",
        help="look at an installation on a cluster: what is wrong, and what to type",
        description="Look at an installation on a cluster: API server, CRD, operator, gateway, rights, keys, GPUs and "
        "models. Ends with 1 where something is wrong.",
    )
    doctor.add_argument(
        "-n", "--namespace", default="shoal-system", help="where Shoal is installed (default %(default)s)"
    )
    flags.add_kubeconfig(doctor)
    doctor.set_defaults(run=lambda given, environment: _doctor(given, environment, say))


def _count(text: str) -> int:
    count = int(text)
    if count < 0:
        raise argparse.ArgumentTypeError(f"{count} is no number of lines; give 0 or more")
    return count


def _status(given: argparse.Namespace, environment: Environment, say: Say) -> int:
    if _asks_a_cluster(given):
        from shoal_operator import cluster_commands

        namespace = None if given.all_namespaces or not given.namespace else given.namespace
        return cluster_commands.status(given.kubeconfig, namespace, say)
    running, dead = status_file.read_all(environment)
    loads = [_load(report) for report in running]
    if given.json:
        facts = [
            report.model_dump(mode="json", by_alias=True)
            | {"load": load.model_dump(mode="json", by_alias=True) if load else None}
            for report, load in zip(running, loads, strict=True)
        ]
        say(json.dumps({"running": facts, "dead": [str(folder) for folder in dead]}, indent=2))
    else:
        now = datetime.now(UTC)
        for report, load in zip(running, loads, strict=True):
            say("\n".join(telling.describe(report, load, now)))
        for folder in dead:
            say(f"a `shoal up` ended without clearing up; its logs are in {folder / 'logs'}")
        if not running:
            say("no `shoal up` is running; start one with: shoal up -f model.yaml (for a cluster: shoal status -A)")
    return 0 if running else 1


def _asks_a_cluster(given: argparse.Namespace) -> bool:
    """Whether `shoal status` is asked about a cluster."""
    return bool(given.namespace or given.all_namespaces or given.kubeconfig)


def _load(report: UpReport) -> LoadMessage | None:
    answer = probe.get(HOST, report.gateway.internal_port, LOAD_PATH, _LOAD_TIMEOUT_SECONDS)
    if answer is None or answer.status != 200:
        return None
    try:
        return LoadMessage.model_validate_json(answer.body)
    except ValidationError:  # something else has that port by now
        return None


def _logs(given: argparse.Namespace, environment: Environment, say: Say) -> int:
    namespace, name = flags.model(given)
    running, _ = status_file.read_all(environment)
    files = [
        replica.log
        for report in running
        for model in report.models
        for replica in model.replicas
        if model.id == f"{namespace}/{name}"
    ]
    if files and given.kubeconfig is None:
        for file in files:
            say(f"==> {file}")
            say("\n".join(status_file.last_lines(Path(file), given.tail)))
        return 0
    from shoal_operator import cluster_commands

    return cluster_commands.logs(
        given.kubeconfig,
        namespace,
        name,
        follow=given.follow,
        tail=given.tail,
        previous=given.previous,
        say=say,
    )


def _doctor(given: argparse.Namespace, _environment: Environment, say: Say) -> int:
    from shoal_operator import cluster_commands

    return cluster_commands.doctor(given.kubeconfig, given.namespace, say)
