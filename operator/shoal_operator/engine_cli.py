"""`shoal engine`: the environment that engines run in, made and found."""

import argparse

from shoal_operator import engines, machine, settings
from shoal_operator.engines import CannotInstall, Variant
from shoal_operator.flags import Commands, Environment, Say


def add(commands: Commands, say: Say) -> None:
    """The two commands."""
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
    install.set_defaults(run=lambda given, environment: _install(given, environment, say))
    python = engine_commands.add_parser("python", help="print the path of that environment's interpreter")
    _add_variant(python)
    python.set_defaults(run=lambda given, environment: _python(given, environment, say))


def _add_variant(parser: argparse.ArgumentParser) -> None:
    variant = parser.add_mutually_exclusive_group()
    variant.add_argument("--cpu", dest="variant", action="store_const", const="cpu", help="vLLM for the CPU")
    variant.add_argument("--gpu", dest="variant", action="store_const", const="gpu", help="vLLM for NVIDIA GPUs")


def _variant(given: argparse.Namespace, environment: Environment) -> Variant:
    """The one asked for, else by what this machine has."""
    asked: Variant | None = given.variant
    return asked or ("gpu" if machine.gpus(environment) else "cpu")


def _install(given: argparse.Namespace, environment: Environment, say: Say) -> int:
    variant = _variant(given, environment)
    engines.install(settings.home(environment), variant, force=given.force, say=say)
    return 0


def _python(given: argparse.Namespace, environment: Environment, say: Say) -> int:
    variant = _variant(given, environment)
    python = engines.python(settings.home(environment), variant, environment)
    if python is None:
        raise CannotInstall(engines.missing_sentence(variant, environment))
    say(str(python))
    return 0
