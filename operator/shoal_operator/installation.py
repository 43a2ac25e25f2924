"""The facts about one installation that rendering needs beside a manifest: images, roots, names."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Installation:
    """What the platform engineer chose when Shoal was installed."""

    engine_image: str
    """Image of the replica program where a manifest names none."""
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    """Names of Secrets that a model's own namespace holds."""
    file_roots: tuple[str, ...] = ()
    """Folders of the nodes below which `file://` sources may lie; none: such sources are refused."""
    cache_claim: str = ""
    """Claim (in the model's namespace) that keeps downloaded weights and compiled kernels."""
    cache_node_path: str = ""
    """Folder of the nodes that keeps them instead; with neither, an emptyDir does, as long as the pod lives."""
    offline: bool = False
    """Nothing is fetched from a hub: `hf://` sources must be in the cache."""
    surge_priority_class: str = ""
    """Non-preempting PriorityClass for replicas made beside the old ones, where their model names none."""
    allow_remote_code: bool = False
    """Whether `--trust-remote-code` may stand in `spec.engine.args`."""
    image_volumes: bool = False
    """Whether the cluster mounts images as volumes (feature gate ImageVolume), which `oci://` sources need."""
    s3_endpoints: tuple[str, ...] = ()
    """Hosts of S3 endpoints that `s3://` sources may use though they lie inside the cluster or its network."""
