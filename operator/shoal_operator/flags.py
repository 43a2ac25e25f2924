"""What the commands' flags have in common; apart from what they call, since what talks to a cluster is slow to load."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Environment = Mapping[str, str]
Say = Callable[[str], None]


def add_kubeconfig(parser: argparse.ArgumentParser) -> None:
    """`--kubeconfig`."""
    parser.add_argument("--kubeconfig", type=Path, metavar="FILE", help="default: $KUBECONFIG, else ~/.kube/config")


def add_model(parser: argparse.ArgumentParser) -> None:
    """The model that is asked about, and of which cluster."""
    parser.add_argument("model", metavar="[NAMESPACE/]MODEL", help="name of the ModelDeployment")
    parser.add_argument("-n", "--namespace", default="default", help="its namespace (default %(default)s)")
    add_kubeconfig(parser)


def model(given: argparse.Namespace) -> tuple[str, str]:
    """Namespace and name of that model."""
    namespace, _, name = given.model.rpartition("/")
    return namespace or given.namespace, name
