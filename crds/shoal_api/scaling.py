"""`spec.scaling`: how many replicas, following the load."""

from typing import ClassVar

from pydantic import Field

from shoal_api.rules import Part, Rule
from shoal_api.schedule import Schedule


class Scaling(Part):
    """How many replicas, following the load."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "minReplicas",
            "self.minReplicas <= self.maxReplicas",
            lambda s: s.min_replicas <= s.max_replicas,
            "must not be greater than maxReplicas",
        ),
        Rule(
            "schedules",
            "self.schedules.all(s, s.minReplicas <= self.maxReplicas)",
            lambda s: all(each.min_replicas <= s.max_replicas for each in s.schedules),
            "a schedule's minReplicas must not be greater than maxReplicas",
        ),
    )

    min_replicas: int = Field(default=0, ge=0, le=1000)
    max_replicas: int = Field(default=4, ge=1, le=1000)
    target_load: int = Field(
        default=16, ge=1, le=100_000, description="Waiting and in-flight requests that one replica should carry."
    )
    idle_seconds: int = Field(
        default=300,
        ge=0,
        le=604_800,
        description="Without any request for so long, the model goes to zero (where minReplicas is 0).",
    )
    scale_down_delay_seconds: int = Field(
        default=30,
        ge=0,
        le=86_400,
        description="Fewer must have been enough for so long, and for 15 s at least; half a cold start or more.",
    )
    schedules: list[Schedule] = Field(
        default_factory=list, max_length=16, description="Times with more replicas at least; the most of them counts."
    )
