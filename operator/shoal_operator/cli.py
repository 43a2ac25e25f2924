"""The `shoal` command: reads arguments and environment, and calls what does the work."""

import argparse
import asyncio
import importlib.metadata
import logging
import os
import sys
from collections.abc import Sequence
from typing import get_args

from shoal_api.keys import EVERY_MODEL, Priority
from shoal_operator import engine_cli, keys, operator_settings, rollout_cli, status_cli, up_cli
from shoal_operator.api_faults import NotThere
from shoal_operator.engines import CannotInstall
from shoal_operator.flags import Environment
from shoal_operator.local import CannotServe
from shoal_operator.manifests import Refused
from shoal_operator.settings import BadSettings


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

    up_cli.add(commands, _say)

    operator = commands.add_parser(
        "operator",
        help="serve the ModelDeployments of a cluster",
        description="Serve the ModelDeployments of a cluster, while holding the Lease. Every flag can also be given as "
        "an environment variable: --lease-name as SHOAL_OPERATOR_LEASE_NAME.",
    )
    operator_settings.add_flags(operator)
    operator.set_defaults(run=_operator)

    engine_cli.add(commands, _say)

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

    status_cli.add(commands, _say)
    rollout_cli.add(commands, _say)

    version = commands.add_parser("version", help="the version of Shoal")
    version.set_defaults(run=_version)
    return parser


def _version(_given: argparse.Namespace, _environment: Environment) -> int:
    _say(importlib.metadata.version("shoal"))
    return 0


def _new_key(given: argparse.Namespace, _environment: Environment) -> int:
    made = keys.new(given.name, [name.strip() for name in given.models.split(",")], given.priority)
    print(f"the key of {given.name}, shown this once: {made.key}", file=sys.stderr, flush=True)
    _say(made.entry.rstrip())
    return 0


def _operator(given: argparse.Namespace, environment: Environment) -> int:
    chosen = operator_settings.read(given, environment, os.getpid())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("kopf").setLevel(logging.WARNING)
    from shoal_operator import operator_program

    asyncio.run(operator_program.run(chosen))
    return 0


def _say(text: str) -> None:
    print(text, flush=True)


def _complain(sentence: str) -> None:
    print(f"error: {sentence}", file=sys.stderr, flush=True)
