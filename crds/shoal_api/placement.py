"""`spec.parallelism`, `resources` and `scheduling`: what a replica's pods ask for, and where they may run."""

from typing import Annotated

from pydantic import Field, StringConstraints

from shoal_api.kubernetes_values import KubernetesObject, OptionalName, Quantity
from shoal_api.rules import Part


class Parallelism(Part):
    """How one replica spreads over GPUs: tensor × pipeline ranks."""

    tensor: int = Field(default=1, ge=1, le=128)
    pipeline: int = Field(default=1, ge=1, le=64)

    @property
    def ranks(self) -> int:
        return self.tensor * self.pipeline


class Resources(Part):
    """What one pod of a replica asks for."""

    gpu: int = Field(default=1, ge=0, le=16, description="GPUs of one pod; 0 runs the CPU engine.")
    gpu_resource: Annotated[
        str,
        StringConstraints(
            min_length=3,
            max_length=253,
            pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?/[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?$",
        ),
    ] = "nvidia.com/gpu"
    cpu: Quantity = "4"
    memory: Quantity = "32Gi"
    shared_memory: Quantity = "8Gi"


class Scheduling(Part):
    """Where the pods may run; Kubernetes' own fields."""

    node_selector: dict[str, Annotated[str, StringConstraints(max_length=63)]] = Field(
        default_factory=dict, max_length=64
    )
    tolerations: list[KubernetesObject] = Field(default_factory=list, max_length=32)
    affinity: KubernetesObject = Field(default_factory=dict)
    topology_spread: list[KubernetesObject] = Field(default_factory=list, max_length=16)
    priority_class_name: OptionalName = ""
    runtime_class_name: OptionalName = ""
    scheduler_name: OptionalName = ""
