"""Decide how a model's weights come to its pods: what the engine loads, and what is mounted and set for that."""

import posixpath
import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from shoal_api.modeldeployment import ModelDeployment
from shoal_api.rules import Fault
from shoal_operator.installation import Installation

MODEL_VOLUME = "shoal-model"
CACHE_VOLUME = "shoal-cache"
MODEL_PATH = "/models"
CACHE_PATH = "/var/cache/shoal"

_CLAIM_PARENT = re.compile(r"/\.\.(/|$)")
_LOAD_FORMAT = re.compile(r"--load[-_]format(=|$)")
_FROM_THE_SECRET = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION")
_ENDPOINT_VARIABLES = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


@dataclass(frozen=True, slots=True)
class Origin:
    """What a source means for a pod."""

    loads: str
    """What the engine is told to load: a path in the pod, a hub's id or a bucket."""
    args: tuple[str, ...] = ()
    env: tuple[dict[str, Any], ...] = ()
    volumes: tuple[dict[str, Any], ...] = ()
    mounts: tuple[dict[str, Any], ...] = ()


def origin(md: ModelDeployment, installation: Installation) -> Origin:
    """Where the weights of this model come from, for a source that `faults` has nothing against."""
    scheme, _, rest = md.spec.model.source.partition("://")
    match scheme:
        case "pvc":
            claim, _, path = rest.partition("/")
            volume = {"persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
            return _mounted(volume, posixpath.join(MODEL_PATH, path).rstrip("/"))
        case "file":
            root = _root(rest, installation) or posixpath.normpath(rest)
            below = posixpath.relpath(posixpath.normpath(rest), root)
            # The root and not the folder itself: a link in it must not lead out of the root.
            volume = {"hostPath": {"path": root, "type": "Directory"}}
            return _mounted(volume, posixpath.normpath(posixpath.join(MODEL_PATH, below)))
        case "oci":
            return _mounted({"image": {"reference": rest, "pullPolicy": installation.image_pull_policy}}, MODEL_PATH)
        case "s3":
            return _from_bucket(md)
        case _:
            token = _from_secret(md, "HF_TOKEN", "token", optional=False)
            return Origin(rest, env=(token,) if token else ())


def cache(md: ModelDeployment, installation: Installation) -> tuple[dict[str, Any], dict[str, Any]]:
    """The volume and the mount for downloaded weights and compiled kernels.

    Kernels are code. On a node's folder each namespace sees only what pods of the same namespace have left there.
    """
    mount: dict[str, Any] = {"name": CACHE_VOLUME, "mountPath": CACHE_PATH}
    if installation.cache_claim:
        volume: dict[str, Any] = {"persistentVolumeClaim": {"claimName": installation.cache_claim}}
    elif installation.cache_node_path:
        volume = {"hostPath": {"path": installation.cache_node_path, "type": "Directory"}}
        mount["subPath"] = md.metadata.namespace
    else:
        volume = {"emptyDir": {}}
    return {"name": CACHE_VOLUME} | volume, mount


def faults(md: ModelDeployment, installation: Installation) -> list[Fault]:
    """Why this source cannot be served in this installation."""
    path = "spec.model.source"
    scheme, _, rest = md.spec.model.source.partition("://")
    match scheme:
        case "pvc" if _CLAIM_PARENT.search(rest):
            return [Fault(path, "a claim source must not contain '..'")]
        case "file" if _root(rest, installation) is None:
            return [Fault(path, _outside_of_the_roots(installation))]
        case "oci" if not installation.image_volumes:
            return [
                Fault(
                    path,
                    "this installation mounts no images as volumes (Kubernetes' feature ImageVolume is off or was not "
                    "switched on for Shoal); put the model on a claim and use pvc://",
                )
            ]
        case "hf" if installation.offline and not (installation.cache_claim or installation.cache_node_path):
            return [
                Fault(
                    path,
                    "this installation is offline and keeps no cache, so nothing can come from a hub; put the model on "
                    "a claim and use pvc://",
                )
            ]
        case "s3":
            return _endpoint_faults(md, installation)
        case _:
            return []


def _mounted(volume: dict[str, Any], loads: str) -> Origin:
    mount = {"name": MODEL_VOLUME, "mountPath": MODEL_PATH, "readOnly": True}
    return Origin(loads, volumes=({"name": MODEL_VOLUME} | volume,), mounts=(mount,))


def _from_bucket(md: ModelDeployment) -> Origin:
    """vLLM's own loader reads the bucket; the image needs its packages (vllm[runai])."""
    chosen = any(_LOAD_FORMAT.match(word) for word in md.spec.engine.args)
    secrets = [_from_secret(md, name, name, optional=True) for name in _FROM_THE_SECRET]
    env = [variable for variable in secrets if variable]
    # Without keys the loader would ask the node's metadata service and read with the node's rights.
    env.append({"name": "AWS_EC2_METADATA_DISABLED", "value": "true"})
    args = () if chosen else ("--load-format", "runai_streamer")
    return Origin(md.spec.model.source, args=args, env=tuple(env))


def _from_secret(md: ModelDeployment, variable: str, key: str, *, optional: bool) -> dict[str, Any] | None:
    credentials = md.spec.model.credentials
    if credentials is None:
        return None
    selector: dict[str, Any] = {"name": credentials.secret_name, "key": key}
    return {"name": variable, "valueFrom": {"secretKeyRef": selector | ({"optional": True} if optional else {})}}


def _root(path: str, installation: Installation) -> str | None:
    """The narrowest allowed root that the path lies below."""
    path = posixpath.normpath(path)
    roots = sorted((posixpath.normpath(root) for root in installation.file_roots), key=len, reverse=True)
    return next((root for root in roots if path == root or path.startswith(root.rstrip("/") + "/")), None)


def _outside_of_the_roots(installation: Installation) -> str:
    if not installation.file_roots:
        return "this installation allows no folders of the nodes; put the model on a claim and use pvc://"
    roots = ", ".join(installation.file_roots)
    return f"only folders below {roots} are allowed in this installation; put the model there or use pvc://"


def _endpoint_faults(md: ModelDeployment, installation: Installation) -> list[Fault]:
    found = []
    for index, variable in enumerate(md.spec.engine.env):
        if variable.name not in _ENDPOINT_VARIABLES:
            continue
        where = f"spec.engine.env[{index}]"
        if variable.value_from is not None:
            found.append(Fault(where, f"{variable.name} must be a plain value, so that it can be checked"))
        elif is_inside(variable.value) and _host(variable.value) not in installation.s3_endpoints:
            found.append(
                Fault(
                    where,
                    f"{variable.name} {variable.value} lies inside the cluster or its network, which this installation "
                    "does not allow; its operator can name the host among the allowed S3 endpoints",
                )
            )
    return found


def is_inside(url: str) -> bool:
    """Whether an endpoint is no host of the open internet, as far as its name tells.

    A name of one or two parts can be a Service of the cluster (`minio`, `minio.storage`), and what ends in a number is
    an address in one of the many ways to write one.
    """
    host = _host(url)
    try:
        return not ip_address(host).is_global
    except ValueError:
        parts = host.split(".")
        in_cluster = parts[-1] in ("svc", "local", "internal", "localhost") or "svc" in parts[2:]
        return len(parts) < 3 or in_cluster or re.fullmatch(r"\d+|0x[0-9a-f]*", parts[-1]) is not None


def _host(url: str) -> str:
    try:
        host = urlsplit(url if "://" in url else f"//{url}").hostname
    except ValueError:
        return ""
    return (host or "").rstrip(".").lower()
