"""What one reconcile saw, decided and tells."""

from dataclasses import dataclass

from shoal_api.status import Status
from shoal_operator.observed import Observed
from shoal_operator.planning import Plan
from shoal_operator.rollout import Desired
from shoal_operator.scaling import Decision, Memory


@dataclass(frozen=True, slots=True)
class Outcome:
    """One reconcile of one model; `observed` is what is there after the plan was carried out."""

    desired: Desired
    observed: Observed
    plan: Plan
    status: Status
    decision: Decision
    memory: Memory
    """For the next reconcile of this model."""
