"""`shoal rollout`: its flags, and whether a cluster or a running `shoal up` is asked."""

import argparse

from shoal_operator import flags, status_file
from shoal_operator.api_faults import NotThere
from shoal_operator.flags import Commands, Environment, Say


def add(commands: Commands, say: Say) -> None:
    """The three commands."""
    rollout = commands.add_parser("rollout", help="how a new revision of a model takes over; undo it, or promote it")
    verbs = rollout.add_subparsers(required=True, metavar="COMMAND")
    shown = verbs.add_parser(
        "status",
        help="which revision, how many replicas of each, and what is waited for",
        description="Which revision a model asks for, how many replicas of each there are, and what is waited for, on "
        "a cluster or, where a `shoal up` of this user serves the model, on this machine. Ends with 1 until the "
        "rollout is complete.",
    )
    shown.set_defaults(run=lambda given, environment: _status(given, environment, say))
    undone = verbs.add_parser(
        "undo",
        help="ask for the revision before again",
        description="Write that part of the spec back which made the last revision that worked. What makes no "
        "revision (scaling, queue, routing, aliases) stays as it is. On a cluster only.",
    )
    undone.add_argument("--to", default="", metavar="REVISION", help="this one (`shoal rollout status` names them)")
    undone.set_defaults(run=lambda given, environment: _undo(given, environment, say))
    promoted = verbs.add_parser(
        "promote",
        help="let a canary take over",
        description="Let the revision that waits as a canary (`spec.rollout.canary`) replace the old one. On a "
        "cluster only.",
    )
    promoted.set_defaults(run=lambda given, environment: _promote(given, environment, say))
    for verb in (shown, undone, promoted):
        flags.add_model(verb)


def _status(given: argparse.Namespace, environment: Environment, say: Say) -> int:
    from shoal_operator import rollout_commands

    namespace, name = flags.model(given)
    if given.kubeconfig is None:
        running, _ = status_file.read_all(environment)
        told = rollout_commands.local_status(running, f"{namespace}/{name}", say)
        if told is not None:
            return told
    return rollout_commands.status(given.kubeconfig, namespace, name, say)


def _undo(given: argparse.Namespace, environment: Environment, say: Say) -> int:
    from shoal_operator import rollout_commands

    _refuse_for_files(given, environment, "put back what it said before")
    return rollout_commands.undo(given.kubeconfig, *flags.model(given), given.to, say)


def _promote(given: argparse.Namespace, environment: Environment, say: Say) -> int:
    from shoal_operator import rollout_commands

    _refuse_for_files(given, environment, "take spec.rollout.canary out")
    return rollout_commands.promote(given.kubeconfig, *flags.model(given), say)


def _refuse_for_files(given: argparse.Namespace, environment: Environment, instead: str) -> None:
    """The files of a `shoal up` belong to whoever wrote them."""
    model_id = "/".join(flags.model(given))
    running, _ = status_file.read_all(environment)
    up = next((report for report in running if model_id in [model.id for model in report.models]), None)
    if up is not None and given.kubeconfig is None:
        raise NotThere(
            f"{model_id} is served by the `shoal up` of {', '.join(up.manifests)}: edit that file and {instead}"
        )
