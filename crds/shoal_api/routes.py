"""The facts that a gateway routes by: models, their names, limits and endpoints.

In a file on one machine; on Kubernetes the gateway's watch builds the same from ModelDeployments and EndpointSlices.
"""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from shoal_api.routing import Queue, Routing, Timeouts


class _Fact(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


class Endpoint(_Fact):
    """The address of one replica that Kubernetes (or the supervisor on one machine) shows as ready."""

    replica: str = Field(description="pod name; unique within the model")
    uid: str = Field(description="pod UID, part of the hello")
    host: str
    port: int
    revision: str = ""


class ModelRoute(_Fact):
    """One model as the gateway sees it."""

    namespace: str
    name: str
    uid: str
    created: datetime
    served_name: str = Field(description="the canonical name: what the engine serves and what stands in responses")
    names: list[str] = Field(description="granted names: what clients may say")
    revision: str = ""
    reasoning_parser: bool = Field(
        default=False, description="the engine separates reasoning from the answer; such streams are not continued"
    )
    queue: Queue = Field(default_factory=Queue)
    timeouts: Timeouts = Field(default_factory=Timeouts)
    routing: Routing = Field(default_factory=Routing)
    cannot_start: str = Field(
        default="",
        description="the sentence of a permanent fault; while no endpoint is ready, requests get 503 with it at once",
    )
    condition: str = Field(
        default="", description="what the Ready condition says; stands in the message of a request that waited in vain"
    )
    endpoints: list[Endpoint] = Field(default_factory=list)

    @property
    def id(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


class RouteDocument(_Fact):
    """Everything a gateway routes; written whole, read whole."""

    models: list[ModelRoute] = Field(default_factory=list)
