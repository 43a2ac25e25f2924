"""Labels and annotations that Shoal puts on what it makes; selectors and mirrors rely on them."""

PREFIX = "shoal.dev/"

MANAGED_BY = "app.kubernetes.io/managed-by"
"""On everything that the operator makes, with MANAGED_BY_SHOAL; gateways watch only EndpointSlices that carry it."""
MANAGED_BY_SHOAL = "shoal"

MODEL = PREFIX + "model"
"""Object name of the ModelDeployment (hashed where it does not fit into a label)."""
MODEL_UID = PREFIX + "model-uid"
"""UID of the ModelDeployment: an object of the same name made later is another model. Selectors use it."""
REVISION = PREFIX + "revision"
"""Revision that a replica was made from."""
REPLICA = PREFIX + "replica"
"""Name of the replica that a pod belongs to: the name of its rank 0 pod."""
RANK = PREFIX + "rank"
"""Rank of a pod within its gang; the Service selects rank 0."""
GANG = PREFIX + "gang"
"""`true` on the pods of gangs, which must reach each other; NetworkPolicies use it."""

REPLICA_CONFIG = PREFIX + "replica-config"
"""Annotation of a replica's pods: the ReplicaConfig as JSON, handed to the program as a file by the downward API."""

KEY = PREFIX + "key"
"""Annotation of a model's ServiceAccount: the fingerprint of the model key that stands in its Secret."""

PROVEN = PREFIX + "proven"
"""Annotation of a ControllerRevision: `true` once a replica of it has been ready."""
FAULT = PREFIX + "fault"
"""Annotation of a ControllerRevision: the last words for which it is not tried any more."""

CANARY = PREFIX + "canary"
"""Annotation of a ControllerRevision: `true` while it may have no more replicas than `spec.rollout.canary` says."""
PROMOTED = PREFIX + "promoted"
"""Annotation of a ModelDeployment: the revision that its owner has promoted, though it began as a canary."""
SURGE = PREFIX + "surge"
"""Annotation of a replica's pods: `true` where they were made beside more replicas than are wanted."""

HTTP_PORT_NAME = "http"
"""Name of the engine's port in Services, EndpointSlices and containers."""
HTTP_PORT = 30000
