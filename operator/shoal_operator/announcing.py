"""Decide what a person at the terminal is told: each change once, with the time it took."""

from dataclasses import dataclass, field
from datetime import datetime

from shoal_api.conditions import ConditionType, Reason
from shoal_api.modeldeployment import ModelDeployment
from shoal_api.replica_config import Stage
from shoal_operator import status as statuses
from shoal_operator.observed import NOT_ANSWERING, Replica, ReplicaState
from shoal_operator.outcome import Outcome
from shoal_operator.planning import Step


@dataclass(slots=True)
class _Told:
    what: str = ""
    began: datetime | None = None
    """When the present start began."""


@dataclass(slots=True)
class Announcer:
    """Remembers what was said."""

    _replicas: dict[tuple[str, str], _Told] = field(default_factory=dict)
    _conditions: dict[str, tuple[str, str]] = field(default_factory=dict)
    _frozen: set[str] = field(default_factory=set)

    def lines(self, md: ModelDeployment, outcome: Outcome, now: datetime) -> list[str]:
        """What is new about this model."""
        plan = outcome.plan
        said = self._scaling(md, outcome)
        if plan.step is not Step.NOTHING and plan.changes_something:
            said.append(_event(md, plan.step, plan.because))
        for replica in outcome.observed.replicas:
            told = self._replicas.setdefault((md.id, replica.uid), _Told())
            if replica.state is ReplicaState.STARTING:
                told.began = replica.since
            what = _what(replica)
            if what and what != told.what:
                told.what = what
                took = f"  ({(now - told.began).total_seconds():.0f} s)" if told.began else ""
                said.append(f"{replica.name}: {what}{took}")
        present = {(md.id, r.uid) for r in outcome.observed.replicas}
        for key in [key for key in self._replicas if key[0] == md.id and key not in present]:
            del self._replicas[key]
            said.append(_event(md, "ReplicaGone", f"{len(present)} left"))
        ready = statuses.condition(outcome.status, ConditionType.READY)
        if ready is not None and self._conditions.get(md.id) != (ready.status, ready.reason):
            self._conditions[md.id] = (ready.status, ready.reason)
            said.append(_event(md, ready.reason, ready.message))
        return said

    def _scaling(self, md: ModelDeployment, outcome: Outcome) -> list[str]:
        """A number that the load changed, and a gateway without which nothing goes."""
        said = []
        decision = outcome.decision
        if decision.follows_load and outcome.status.last_scale not in (None, md.status.last_scale):
            said.append(_event(md, decision.reason, f"{decision.replicas} wanted: {decision.because}"))
        is_frozen = decision.reason is Reason.GATEWAY_SILENT
        if is_frozen and md.id not in self._frozen:
            said.append(_event(md, decision.reason, decision.because))
        (self._frozen.add if is_frozen else self._frozen.discard)(md.id)
        return said


def _event(md: ModelDeployment, reason: str, because: str) -> str:
    return f'model={md.id} reason={reason} because="{because}"'


def _what(replica: Replica) -> str:
    words = replica.last_words
    match replica.state:
        case ReplicaState.READY:
            return "ready"
        case ReplicaState.DRAINING:
            return "finishes what runs and ends"
        case ReplicaState.FAILED:
            said = words.sentence if words else "it ended without a word"
            return said if words and words.permanent else f"{said} (tried again soon)"
        case ReplicaState.STARTING:
            if replica.stage == NOT_ANSWERING:
                return "does not answer any more"
            # Its own word that it is ready or failed comes a moment before we see the same: told once.
            return "" if replica.stage in (Stage.READY, Stage.FAILED) else replica.stage or "process starts"
