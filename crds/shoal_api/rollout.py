"""`spec.rollout`: how a new revision replaces the old one."""

from enum import StrEnum

from pydantic import Field

from shoal_api.rules import Part


class RolloutStrategy(StrEnum):
    """What comes first when a revision replaces another."""

    AUTO = "Auto"
    SURGE = "Surge"
    DELETE_FIRST = "DeleteFirst"


class Canary(Part):
    """So many replicas of a new revision serve beside the old ones until somebody promotes them."""

    replicas: int = Field(
        default=1,
        ge=1,
        le=100,
        description="Replicas of the new revision; one old replica stays in any case. Their share of the requests "
        "follows from balancing over all replicas.",
    )


class Rollout(Part):
    """How a new revision replaces the old one."""

    strategy: RolloutStrategy = RolloutStrategy.AUTO
    start_deadline_seconds: int = Field(default=1800, ge=10, le=86_400)
    drain_seconds: int = Field(default=600, ge=0, le=86_400)
    canary: Canary | None = Field(
        default=None,
        description="A new revision stops at so many replicas until `shoal rollout promote`. Without it: replaces all.",
    )
