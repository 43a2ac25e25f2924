"""The `ModelDeployment` resource: what a model owner may wish for, and what is reported back. Source of the CRD."""

import json
from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, StringConstraints, ValidationError

from shoal_api.engine import Engine
from shoal_api.kubernetes_values import KubernetesObject
from shoal_api.model import Model
from shoal_api.placement import Parallelism, Resources, Scheduling
from shoal_api.rollout import Rollout
from shoal_api.routing import Queue, Routing, Timeouts
from shoal_api.rules import BadManifest, Fault, Part, Rule, faults_of
from shoal_api.scaling import Scaling
from shoal_api.status import Status, understood

GROUP = "shoal.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "ModelDeployment"
PLURAL = "modeldeployments"
SHORT_NAME = "mdep"

_DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"


class Spec(Part):
    """The wish."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "resources.gpu",
            "self.resources.gpu <= self.parallelism.tensor * self.parallelism.pipeline",
            lambda s: s.resources.gpu <= s.parallelism.ranks,
            "is more than parallelism.tensor × parallelism.pipeline: some GPUs would never be used",
        ),
        Rule(
            "parallelism",
            "self.resources.gpu == 0 || "
            "(self.parallelism.tensor * self.parallelism.pipeline) % self.resources.gpu == 0",
            lambda s: s.resources.gpu == 0 or s.parallelism.ranks % s.resources.gpu == 0,
            "tensor × pipeline must be a multiple of resources.gpu, so that every pod of the gang is used fully",
        ),
    )

    model: Model
    engine: Engine = Field(default_factory=Engine)
    parallelism: Parallelism = Field(default_factory=Parallelism)
    resources: Resources = Field(default_factory=Resources)
    scheduling: Scheduling = Field(default_factory=Scheduling)
    pod_template: KubernetesObject = Field(
        default_factory=dict, description="Merged over the rendered pod: labels, volumes, pull secrets, sidecars."
    )
    scaling: Scaling | None = Field(
        default=None, description="Replicas follow the load. Without it and without replicas: one replica."
    )
    replicas: int | None = Field(
        default=None, ge=0, le=1000, description="Overrides scaling; `kubectl scale` writes it."
    )
    queue: Queue = Field(default_factory=Queue)
    timeouts: Timeouts = Field(default_factory=Timeouts)
    routing: Routing = Field(default_factory=Routing)
    rollout: Rollout = Field(default_factory=Rollout)

    @property
    def pods_of_a_replica(self) -> int:
        """More than 1: a gang. Without GPUs all ranks run side by side in one pod."""
        return self.parallelism.ranks // self.resources.gpu if self.resources.gpu else 1


class Metadata(Part):
    """The part of Kubernetes' ObjectMeta that Shoal reads."""

    model_config = ConfigDict(extra="ignore")

    name: Annotated[
        str,
        StringConstraints(
            min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
        ),
    ]
    namespace: Annotated[str, StringConstraints(max_length=63, pattern=_DNS_LABEL)] = "default"
    uid: str = ""
    generation: int = 1
    creation_timestamp: datetime | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class ModelDeployment(Part):
    """One model to be served: the custom resource."""

    api_version: Literal["shoal.dev/v1alpha1"] = "shoal.dev/v1alpha1"
    kind: Literal["ModelDeployment"] = "ModelDeployment"
    metadata: Metadata
    spec: Spec
    status: Status = Field(default_factory=Status)

    @property
    def id(self) -> str:
        """`namespace/name`."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    @property
    def canonical_name(self) -> str:
        """The one name the engine serves."""
        return self.spec.model.names[0] if self.spec.model.names else self.metadata.name

    @property
    def chosen_names(self) -> tuple[str, ...]:
        """The names that the manifest gives, canonical first."""
        return tuple(self.spec.model.names) or (self.metadata.name,)

    @property
    def claimed_names(self) -> tuple[str, ...]:
        """Every name clients may use, canonical first; who gets a contested one is decided by `naming.grant`."""
        names = list(self.chosen_names)
        if self.spec.model.source.startswith("hf://"):
            hub_id = self.spec.model.source.removeprefix("hf://").split("@")[0]
            if hub_id not in names:
                names.append(hub_id)
        return tuple(names)


def read(manifest: object) -> ModelDeployment:
    """A ModelDeployment from a manifest as parsed from YAML or JSON.

    Raises BadManifest with every fault found, each with its field's path.
    """
    if not isinstance(manifest, dict):
        raise BadManifest([Fault("", "a manifest is a mapping with apiVersion, kind, metadata and spec")])
    if manifest.get("kind") != KIND or manifest.get("apiVersion") != API_VERSION:
        found = f"{manifest.get('apiVersion')}/{manifest.get('kind')}"
        raise BadManifest([Fault("kind", f"expected {API_VERSION} {KIND}, found {found}")])
    if "status" in manifest:
        manifest = manifest | {"status": understood(manifest["status"])}
    try:
        text = json.dumps(manifest, default=str)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadManifest([Fault("", f"this cannot be written as JSON ({error})")]) from error
    try:
        # As JSON and strict, like the API server: "2" is no number. (YAML readers make dates of timestamps.)
        return ModelDeployment.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise BadManifest(faults_of(error)) from error
