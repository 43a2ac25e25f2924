"""The `ModelDeployment` resource: what a model owner may wish for, and what is reported back. Source of the CRD."""

import json
import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError, WithJsonSchema

from shoal_api import engine_flags
from shoal_api.conditions import Condition
from shoal_api.rules import BadManifest, Fault, Kept, Part, Rule, faults_of
from shoal_api.schedule import Schedule

GROUP = "shoal.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "ModelDeployment"
PLURAL = "modeldeployments"
SHORT_NAME = "mdep"

SOURCE_SCHEMES = ("hf", "pvc", "s3", "oci", "file")

_HUB = "^hf://[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?(@[A-Za-z0-9._/-]+)?$"
_CLAIM = "^pvc://[a-z0-9]([-.a-z0-9]*[a-z0-9])?(/[^/]+)*/?$"
_BUCKET = "^(s3|oci)://[A-Za-z0-9][^ ]*$"
_FILE = "^file:///[^/]"
_PARENT = "/[.][.](/|$)"

_DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_QUANTITY = r"^([0-9]+|[0-9]*\.[0-9]+)(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?$"

SecretName = Annotated[
    str, StringConstraints(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")
]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$")]
Quantity = Annotated[
    str,
    StringConstraints(max_length=32, pattern=_QUANTITY),
    BeforeValidator(lambda v: str(v) if isinstance(v, int) and not isinstance(v, bool) else v),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "pattern": _QUANTITY, "maxLength": 32}),
]
Argument = Annotated[
    str,
    StringConstraints(min_length=1, max_length=2048),
    Kept(
        Rule(
            "",
            f"!self.matches('{engine_flags.OWNED}')",
            lambda argument: not engine_flags.is_owned(argument),
            "Shoal sets the address, name, keys, TLS, model and parallelism of the engine itself; remove this flag "
            "(names: spec.model.names, parallelism: spec.parallelism)",
        ),
        Rule(
            "",
            f"!self.matches('{engine_flags.CODE}')",
            lambda argument: not engine_flags.loads_code(argument),
            "flags that load a configuration file or code of the caller's own are refused",
        ),
        Rule(
            "",
            f"!self.matches('{engine_flags.LOGGING}')",
            lambda argument: not engine_flags.logs_prompts(argument),
            "prompts and answers never go into logs; remove this flag",
        ),
    ),
]
OptionalName = Annotated[str, StringConstraints(max_length=253, pattern=r"^([a-z0-9]([-.a-z0-9]*[a-z0-9])?)?$")]
KubernetesObject = Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]


class Credentials(Part):
    """Where the token for a private source is found."""

    secret_name: SecretName = Field(
        description="Secret in the model's own namespace; its key `token` (hf) or the AWS variables (s3)."
    )


class Model(Part):
    """What is served, and under which names."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "source",
            "self.source.matches('^(hf|pvc|s3|oci|file)://')",
            lambda m: m.source.partition("://")[0] in SOURCE_SCHEMES and "://" in m.source,
            "must begin with one of hf://, pvc://, s3://, oci:// or file:///",
        ),
        Rule(
            "source",
            f"!self.source.startsWith('file://') || self.source.matches('{_FILE}')",
            lambda m: not m.source.startswith("file://") or bool(re.search(_FILE, m.source)),
            "a file source is an absolute path with three slashes: file:///models/llama",
        ),
        Rule(
            "source",
            f"!self.source.startsWith('file://') || !self.source.matches('{_PARENT}')",
            lambda m: not m.source.startswith("file://") or not re.search(_PARENT, m.source),
            "a file source must not contain '..'",
        ),
        Rule(
            "source",
            f"!self.source.startsWith('hf://') || self.source.matches('{_HUB}')",
            lambda m: not m.source.startswith("hf://") or bool(re.search(_HUB, m.source)),
            "a Hugging Face source is hf://ORGANISATION/MODEL, optionally with @REVISION",
        ),
        Rule(
            "source",
            f"!self.source.startsWith('pvc://') || self.source.matches('{_CLAIM}')",
            lambda m: not m.source.startswith("pvc://") or bool(re.search(_CLAIM, m.source)),
            "a claim source is pvc://CLAIM/PATH",
        ),
        Rule(
            "source",
            f"!self.source.matches('^(s3|oci)://') || self.source.matches('{_BUCKET}')",
            lambda m: not m.source.startswith(("s3://", "oci://")) or bool(re.search(_BUCKET, m.source)),
            "an s3:// or oci:// source needs a bucket or registry after the slashes, and no spaces",
        ),
        Rule(
            "names",
            "self.names.all(n, self.names.exists_one(o, o == n))",
            lambda m: len(set(m.names)) == len(m.names),
            "a name stands twice in the list",
        ),
    )

    source: Annotated[str, StringConstraints(min_length=1, max_length=1024)] = Field(
        description="hf://ORG/MODEL[@REVISION], pvc://CLAIM/PATH, s3://BUCKET/PATH, oci://IMAGE "
        "or file:///PATH (only below roots that the installation allows)."
    )
    names: list[ModelName] = Field(
        default_factory=list,
        max_length=16,
        description="What clients may say in `model`; the first is canonical. Default: the object's name. "
        "An hf:// source's id is an alias too.",
    )
    credentials: Credentials | None = Field(default=None, description="Token for a private source.")


class KeySelector(Part):
    """A key of a Secret or ConfigMap in the model's own namespace."""

    name: SecretName
    key: Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
    optional: bool = False


class ValueFrom(Part):
    """Where an environment variable's value comes from."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "",
            "has(self.secretKeyRef) != has(self.configMapKeyRef)",
            lambda v: (v.secret_key_ref is None) != (v.config_map_key_ref is None),
            "give exactly one of secretKeyRef and configMapKeyRef",
        ),
    )

    secret_key_ref: KeySelector | None = None
    config_map_key_ref: KeySelector | None = None


class EnvVar(Part):
    """An environment variable of the engine."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "valueFrom",
            "!(has(self.valueFrom) && has(self.value) && self.value != '')",
            lambda e: e.value_from is None or not e.value,
            "give value or valueFrom, not both",
        ),
        Rule(
            "name",
            "!self.name.matches('" + engine_flags.FORBIDDEN_ENV + "')",
            lambda e: not engine_flags.is_forbidden_env(e.name),
            "Shoal sets the variables of Ray Serve, of its own and VLLM_API_KEY itself; remove this one",
        ),
    )

    name: Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    value: Annotated[str, StringConstraints(max_length=4096)] = ""
    value_from: ValueFrom | None = None


class EngineKind(StrEnum):
    """The engines Shoal can run."""

    VLLM = "vllm"


class Engine(Part):
    """The program that computes, with its own flags."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "env",
            "self.env.all(e, self.env.exists_one(o, o.name == e.name))",
            lambda e: len({v.name for v in e.env}) == len(e.env),
            "a variable stands twice in the list",
        ),
    )

    kind: EngineKind = EngineKind.VLLM
    args: list[Argument] = Field(
        default_factory=list,
        max_length=64,
        description="The engine's own flags, one list item per word, passed through.",
    )
    env: list[EnvVar] = Field(default_factory=list, max_length=64)
    image: Annotated[str, StringConstraints(max_length=512, pattern=r"^[^\s]*$")] = Field(
        default="", description="Container image with the replica program; empty: the installation's."
    )


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
        default=30, ge=0, le=86_400, description="Fewer must have been enough for so long; half a cold start or more."
    )
    schedules: list[Schedule] = Field(
        default_factory=list, max_length=16, description="Times with more replicas at least; the most of them counts."
    )


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


class LastScale(Part):
    """The last change of the number of replicas."""

    model_config = ConfigDict(extra="ignore")

    time: datetime
    from_replicas: int
    to_replicas: int
    reason: str
    because: str


class ObservedLoad(Part):
    """What the gateways report, coarse: at most every 10 s."""

    model_config = ConfigDict(extra="ignore")

    waiting: int = 0
    in_flight: int = 0


class Status(Part):
    """What is true."""

    model_config = ConfigDict(extra="ignore")

    observed_generation: int = 0
    desired_replicas: int = 0
    replicas: int = 0
    ready_replicas: int = 0
    revision: str = ""
    selector: str = Field(default="", description="Label selector of the replica pods, for the scale subresource.")
    names: list[str] = Field(default_factory=list, max_length=32)
    last_scale: LastScale | None = None
    load: ObservedLoad = Field(default_factory=ObservedLoad)
    conditions: list[Condition] = Field(
        default_factory=list,
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )


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
    deletion_timestamp: datetime | None = None
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
    try:
        # As JSON and strict, like the API server: "2" is no number. (YAML readers make dates of timestamps.)
        return ModelDeployment.model_validate_json(json.dumps(manifest, default=str), strict=True)
    except ValidationError as error:
        raise BadManifest(faults_of(error)) from error
