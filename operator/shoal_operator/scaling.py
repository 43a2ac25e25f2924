"""Decide how many replicas a model wants."""

from dataclasses import dataclass

from shoal_api.conditions import Reason
from shoal_api.modeldeployment import Spec


@dataclass(frozen=True, slots=True)
class Decision:
    """How many, and why."""

    replicas: int
    reason: Reason
    because: str


def decide(spec: Spec) -> Decision:
    """As many as `spec.replicas` says; one where it says nothing."""
    if spec.replicas is not None:
        return Decision(spec.replicas, Reason.FIXED_REPLICAS, f"spec.replicas is {spec.replicas}")
    return Decision(1, Reason.DEFAULT_REPLICAS, "neither spec.replicas nor spec.scaling is given: one replica")
