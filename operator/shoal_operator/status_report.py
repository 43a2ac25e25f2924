"""What `shoal up` tells about itself: the document that `shoal status` reads."""

from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from shoal_api.status import Status
from shoal_operator.observed import Replica


class _Fact(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


class ReplicaReport(_Fact):
    """One replica."""

    name: str
    revision: str
    state: str
    stage: str = ""
    since: datetime
    restarts: int = 0
    last_words: str = ""
    pid: int | None = None
    port: int | None = None
    log: str = ""


class ModelReport(_Fact):
    """One model: what is told to its owner, and its replicas."""

    id: str
    status: Status
    replicas: list[ReplicaReport] = Field(default_factory=list)


class GatewayReport(_Fact):
    """The gateway's process."""

    ready: bool = False
    restarts: int = 0
    last_words: str = ""
    pid: int | None = None
    internal_port: int


class UpReport(_Fact):
    """Everything about one running `shoal up`."""

    pid: int
    address: str
    started: datetime
    manifests: list[str]
    manifest_fault: str = Field(default="", description="why the present files are not carried out")
    gateway: GatewayReport
    models: list[ModelReport] = Field(default_factory=list)


def of_replica(replica: Replica, pid: int | None, log: Path) -> ReplicaReport:
    """The report of one observed replica."""
    return ReplicaReport(
        name=replica.name,
        revision=replica.revision,
        state=replica.state,
        stage=replica.stage,
        since=replica.since,
        restarts=replica.restarts,
        last_words=replica.last_words.sentence if replica.last_words else "",
        pid=pid,
        port=replica.endpoint.port if replica.endpoint else None,
        log=str(log),
    )
