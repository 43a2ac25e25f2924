"""The one number that operator and gateway meet in: the load, as each gateway tells it on its internal port.

The operator opens the stream (`POST` LOAD_STREAM_PATH, `authorization: Bearer` proof.load_token). Both bodies are lines
of JSON that go on as long as the connection: the gateway's a LoadSnapshot and then a LoadChange every second, the
operator's a ReplicaSums now and then. Whoever reads takes what it knows of a message of its own version and of the
versions beside it: a version adds fields, and takes one away only when nobody of the version before reads it.
"""

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt
from pydantic.alias_generators import to_camel

LOAD_PATH = "/load"
"""`GET` on a gateway's internal port answers a LoadSnapshot."""
LOAD_STREAM_PATH = "/load/stream"

VERSION = 2
"""Version 1 was the snapshot alone: without sequence number, up-time, arrivals and idle time."""

TELL_SECONDS = 1.0
"""So often a gateway says something, even where nothing changed: silence has a meaning."""


class _Message(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


class ModelLoad(_Message):
    """The load of one model at one gateway; all counts of requests."""

    waiting: int = Field(default=0, ge=0)
    in_flight: int = Field(default=0, ge=0)
    in_flight_by_replica: dict[str, int] = Field(default_factory=dict)
    arrived: int = Field(
        default=0, ge=0, description="requests since the gateway began; 0 where it does not count them"
    )
    idle_seconds: float = Field(default=0, ge=0, description="since the last request of it was seen, to the second")
    callers: dict[str, NonNegativeInt] = Field(
        default_factory=dict, description="who waits, by priority; nobody where no replica can be reached from here"
    )


class LoadMessage(_Message):
    """What a gateway tells: everything, or what changed since its last message."""

    version: int = 1
    boot: str = Field(description="another one after each start of the gateway: it counts anew")
    sequence: int = Field(default=0, description="counts the messages of one stream, from 0")
    is_whole: bool = Field(default=True, description="models that are not named have no load")
    uptime_seconds: float = Field(default=0, ge=0, description="of a model that was never named nobody asked so long")
    models: dict[str, ModelLoad] = Field(
        default_factory=dict, description="by namespace/name; in a snapshot those without a request so far are left out"
    )


class Claim(_Message):
    """What one gateway wants of a model's places."""

    callers: dict[str, NonNegativeInt] = Field(default_factory=dict, description="who waits there, by priority")
    requests: NonNegativeInt = Field(default=0, description="that wait or run there")


class Claims(_Message):
    """Every gateway at which somebody waits for a model, in an order that is the same for all of them."""

    claims: list[Claim] = Field(default_factory=list)
    own: NonNegativeInt | None = Field(default=None, description="which of them is the reader's; null: none is")


class ReplicaSums(_Message):
    """What the operator sends back: what the other gateways have in flight, and where callers wait."""

    version: int = 1
    elsewhere: dict[str, dict[str, int]] = Field(default_factory=dict, description="by model, by replica")
    claims: dict[str, Claims] = Field(
        default_factory=dict, description="by model; only of models for which somebody waits at another gateway"
    )


def is_understood(version: int) -> bool:
    """Whether a message of this version can be read here."""
    return VERSION - 1 <= version <= VERSION + 1
