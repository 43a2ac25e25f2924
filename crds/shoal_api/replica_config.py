"""What a replica program is told at its start, and what it reports while it starts."""

from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class _Message(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class ReplicaConfig(_Message):
    """The file that `python -m shoal_serving.replica --config FILE` reads.

    `replica` and `replica_uid` are the pod's name and UID; where they are empty they come from the environment
    (POD_NAME and POD_UID by the downward API), since no file can know them beforehand.
    """

    model: str = Field(description="namespace/name of the ModelDeployment")
    replica: str = ""
    replica_uid: str = ""
    revision: str
    served_name: str = Field(description="the canonical name, the only one the engine knows")
    source: str = Field(description="what the engine loads: a directory's path or a hub id (with @REVISION)")
    args: list[str] = Field(default_factory=list)
    tensor: int = 1
    pipeline: int = 1
    gpus: int = Field(default=0, description="GPUs of this pod")
    nodes: int = Field(default=1, description="pods of this replica; more than 1: a gang, each with as many GPUs")
    rank: int = Field(default=0, description="which of them this is; rank 0 holds Ray's head and the port")
    head: str = Field(default="", description="HOST:PORT at which the ranks of a gang find the head of rank 0")
    address: str = Field(default="", description="where the ranks of a gang reach this pod; empty: POD_IP")
    host: str = "0.0.0.0"  # noqa: S104  (a pod's replica is reached by its pod IP; on one machine this is loopback)
    port: int = 30000
    drain_seconds: float = 600
    settle_seconds: float = 2
    model_key_file: Path
    ray_token_file: Path
    directory: Path = Field(description="the replica's own scratch folder; Ray's session and the report lie below it")
    termination_message: Path = Path("/dev/termination-log")


class Stage(StrEnum):
    """Where a starting replica is."""

    RAY = "Ray"
    """Ray's own processes start."""
    IMPORTS = "Imports"
    """Serve is up; the engine's code is imported and its arguments are checked."""
    ENGINE = "Engine"
    """The engine loads the weights and prepares its memory."""
    SELF_TEST = "SelfTest"
    """A first real request runs."""
    READY = "Ready"
    DRAINING = "Draining"
    FAILED = "Failed"


class Report(_Message):
    """One line of `report.jsonl` in the replica's directory; the last line tells where it is."""

    stage: Stage
    at: float = Field(description="Unix time, seconds")
    sentence: str = ""


REPORT_FILE = "report.jsonl"
