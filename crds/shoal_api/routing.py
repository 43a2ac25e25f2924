"""`spec.queue`, `timeouts` and `routing`: how the gateway treats the requests for a model."""

from enum import StrEnum

from pydantic import Field

from shoal_api.rules import Part


class Queue(Part):
    """How requests wait in the gateway."""

    max_in_flight_per_replica: int = Field(default=64, ge=1, le=65_536)
    max_waiting: int = Field(default=1000, ge=0, le=1_000_000, description="Per gateway process; over it 429.")
    max_wait_seconds: float = Field(
        default=300, ge=0, le=86_400, description="From a request's arrival at the gateway; over it 503."
    )
    heartbeat_after_seconds: float = Field(
        default=0, ge=0, le=3600, description="A held stream gets its status and comment lines after so long; 0: never."
    )


class Timeouts(Part):
    """How long the gateway waits for a replica."""

    connect_seconds: float = Field(default=2, gt=0, le=60)
    first_byte_seconds: float = Field(default=600, gt=0, le=86_400)
    idle_seconds: float = Field(default=120, gt=0, le=86_400)


class RoutingPolicy(StrEnum):
    """How the gateway chooses among ready replicas."""

    LEAST_LOAD = "LeastLoad"


class Continuation(StrEnum):
    """What happens to a stream whose replica is lost."""

    EXACT = "Exact"
    OFF = "Off"


class Routing(Part):
    """How requests find a replica."""

    policy: RoutingPolicy = RoutingPolicy.LEAST_LOAD
    continuation: Continuation = Continuation.EXACT
