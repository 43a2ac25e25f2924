"""The kinds of Kubernetes objects that the operator reads or writes, and how an object tells who it is."""

from dataclasses import dataclass
from typing import Any

from shoal_api import labels, modeldeployment

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object and where the API server keeps it."""

    api_version: str
    name: str
    plural: str

    @property
    def group(self) -> str:
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        return self.api_version.rpartition("/")[2]

    def path(self, namespace: str | None = None, name: str = "", subresource: str = "") -> str:
        """The path of a URL; without a namespace that of all namespaces, or of a kind that knows none."""
        root = f"/apis/{self.api_version}" if self.group else f"/api/{self.api_version}"
        steps = [*(["namespaces", namespace] if namespace else []), self.plural, name, subresource]
        return "/".join([root, *(step for step in steps if step)])


@dataclass(frozen=True, slots=True)
class Listing:
    """A list as it was at one moment: what came later is not missing in it."""

    objects: list[Manifest]
    version: int


MODEL = Kind(modeldeployment.API_VERSION, modeldeployment.KIND, modeldeployment.PLURAL)
POD = Kind("v1", "Pod", "pods")
SERVICE = Kind("v1", "Service", "services")
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
SECRET = Kind("v1", "Secret", "secrets")
REVISION = Kind("apps/v1", "ControllerRevision", "controllerrevisions")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
CLAIM = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
PRIORITY_CLASS = Kind("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses")
EVENT = Kind("v1", "Event", "events")
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")
NODE = Kind("v1", "Node", "nodes")
ENDPOINT_SLICE = Kind("discovery.k8s.io/v1", "EndpointSlice", "endpointslices")

MADE = (SERVICE, SERVICE_ACCOUNT, REVISION, POD)
"""What is made for a model and watched. Its Secret is not: nobody needs to list Secrets."""
OF_SHOAL = f"{labels.MANAGED_BY}={labels.MANAGED_BY_SHOAL}"
"""Selects what is made for models."""


def of(manifest: Manifest) -> Kind:
    """The kind of something that is to be made."""
    return next(kind for kind in (*MADE, SECRET) if kind.name == manifest["kind"])


def name(manifest: Manifest) -> str:
    return str(manifest["metadata"]["name"])


def namespace(manifest: Manifest) -> str:
    return str(manifest["metadata"].get("namespace", ""))


def uid(manifest: Manifest) -> str:
    return str(manifest["metadata"].get("uid", ""))


def label(manifest: Manifest, key: str) -> str:
    return str(manifest["metadata"].get("labels", {}).get(key, ""))


def annotation(manifest: Manifest, key: str) -> str:
    return str(manifest["metadata"].get("annotations", {}).get(key, ""))


def revision(manifest: Manifest) -> str:
    """The revision that a pod or a record is of."""
    return label(manifest, labels.REVISION)


def replica(manifest: Manifest) -> str:
    """The replica that a pod belongs to."""
    return label(manifest, labels.REPLICA) or name(manifest)


def version(manifest: Manifest) -> int:
    """The resource version as a number: of two readings of one object the greater is the newer."""
    text = str(manifest["metadata"].get("resourceVersion", "0"))
    return int(text) if text.isdecimal() else 0


def is_owned_by(manifest: Manifest, owner_uid: str) -> bool:
    """Whether the object was made for the model with this UID, and not by somebody else who likes the same name."""
    references = manifest["metadata"].get("ownerReferences", [])
    return any(reference.get("uid") == owner_uid and reference.get("controller") for reference in references)


def is_leaving(manifest: Manifest) -> bool:
    return bool(manifest["metadata"].get("deletionTimestamp"))
