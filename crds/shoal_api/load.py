"""The one number that operator and gateway meet in: the load, as a gateway tells it on its internal port."""

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class _Message(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


class ModelLoad(_Message):
    """The load of one model at one gateway; all counts of requests."""

    waiting: int = 0
    in_flight: int = 0
    in_flight_by_replica: dict[str, int] = Field(default_factory=dict)


class LoadSnapshot(_Message):
    """The load of every model at one gateway, with the gateway's boot id: a restarted gateway counts anew."""

    boot: str
    models: dict[str, ModelLoad] = Field(
        default_factory=dict, description="by namespace/name; models without load are left out"
    )


LOAD_PATH = "/load"
"""`GET` on a gateway's internal port answers a LoadSnapshot."""
