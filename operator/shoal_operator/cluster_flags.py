"""The flags of the commands that look at a cluster; apart from them, since what talks to a cluster is slow to load."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Run = Callable[[argparse.Namespace, Mapping[str, str]], int]


def add_status(commands: Commands, run: Run) -> None:
    """`shoal status`."""
    status = commands.add_parser(
        "status",
        help="what is served, and how it is",
        description="What every running `shoal up` of this user serves, and how it is; with one of -n, -A and "
        "--kubeconfig, the models of a cluster.",
    )
    status.add_argument("--json", action="store_true", help="as JSON (this machine only; for a cluster use kubectl)")
    status.add_argument("-n", "--namespace", default="", help="the models of this namespace of a cluster")
    status.add_argument("-A", "--all-namespaces", action="store_true", help="the models of all namespaces")
    add_kubeconfig(status)
    status.set_defaults(run=run)


def asks_a_cluster(given: argparse.Namespace) -> bool:
    """Whether `shoal status` is asked about a cluster."""
    return bool(given.namespace or given.all_namespaces or given.kubeconfig)


def add_doctor(commands: Commands, run: Run) -> None:
    """`shoal doctor`."""
    doctor = commands.add_parser(
        "doctor",
        help="look at an installation on a cluster: what is wrong, and what to type",
        description="Look at an installation on a cluster: API server, CRD, operator, gateway, rights, keys, GPUs and "
        "models. Ends with 1 where something is wrong.",
    )
    doctor.add_argument(
        "-n", "--namespace", default="shoal-system", help="where Shoal is installed (default %(default)s)"
    )
    add_kubeconfig(doctor)
    doctor.set_defaults(run=run)


def add_logs(commands: Commands, run: Run) -> None:
    """`shoal logs`."""
    logs = commands.add_parser(
        "logs",
        help="what the replicas of a model print",
        description="What the replicas of a model print, on a cluster or, where a `shoal up` of this user serves the "
        "model, on this machine.",
    )
    logs.add_argument("model", metavar="[NAMESPACE/]MODEL", help="name of the ModelDeployment")
    logs.add_argument("-n", "--namespace", default="default", help="its namespace (default %(default)s)")
    logs.add_argument("-f", "--follow", action="store_true", help="go on as long as they run")
    logs.add_argument("--tail", type=int, default=100, metavar="LINES", help="of each replica (default %(default)s)")
    logs.add_argument("--previous", action="store_true", help="of the run before, which ended")
    add_kubeconfig(logs)
    logs.set_defaults(run=run)


def model(given: argparse.Namespace) -> tuple[str, str]:
    """Namespace and name of the model that is asked about."""
    namespace, _, name = given.model.rpartition("/")
    return namespace or given.namespace, name


def add_kubeconfig(parser: argparse.ArgumentParser) -> None:
    """`--kubeconfig`."""
    parser.add_argument("--kubeconfig", type=Path, metavar="FILE", help="default: $KUBECONFIG, else ~/.kube/config")
