"""`status`: what is true, written by the operator."""

from datetime import datetime
from typing import Any

from pydantic import ConfigDict, Field

from shoal_api.conditions import Condition, ConditionType
from shoal_api.rules import Part


class LastScale(Part):
    """The last change of the number of replicas."""

    model_config = ConfigDict(extra="ignore")

    time: datetime
    from_replicas: int
    to_replicas: int
    reason: str
    because: str


class ObservedLoad(Part):
    """What the gateways report, coarse: at most every 10 s."""

    model_config = ConfigDict(extra="ignore")

    waiting: int = 0
    in_flight: int = 0


class Status(Part):
    """What is true."""

    model_config = ConfigDict(extra="ignore")

    observed_generation: int = 0
    desired_replicas: int = 0
    replicas: int = 0
    ready_replicas: int = 0
    revision: str = ""
    selector: str = Field(default="", description="Label selector of the replica pods, for the scale subresource.")
    names: list[str] = Field(default_factory=list, max_length=32)
    last_scale: LastScale | None = None
    load: ObservedLoad = Field(default_factory=ObservedLoad)
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )


def understood(told: Any) -> Any:
    """A status as it is kept, less the conditions of which only another version knows: they take no model away."""
    if not isinstance(told, dict) or not isinstance(told.get("conditions"), list):
        return told
    known = set(ConditionType)
    conditions = [each for each in told["conditions"] if not isinstance(each, dict) or each.get("type") in known]
    return told | {"conditions": conditions}
