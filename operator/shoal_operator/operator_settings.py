"""What `shoal operator` is told at its start: by flags, or by SHOAL_OPERATOR_NAME for --name."""

import argparse
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoal_operator.installation import Installation
from shoal_operator.settings import BadSettings

PREFIX = "SHOAL_OPERATOR_"
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True, slots=True)
class Flag:
    """One setting."""

    name: str
    metavar: str
    help: str
    default: str = ""

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper().replace("-", "_")

    @property
    def is_switch(self) -> bool:
        return not self.metavar


FLAGS = (
    Flag("namespaces", "NAME,NAME", "namespaces whose models are served; empty: all"),
    Flag("master-key-file", "FILE", "the installation's master key, 64 hexadecimal digits; gateways have the same"),
    Flag("engine-image", "IMAGE", "image of the replica program where a manifest names none"),
    Flag("image-pull-policy", "POLICY", "Always, IfNotPresent or Never, for the pods of replicas", "IfNotPresent"),
    Flag("image-pull-secrets", "NAME,NAME", "Secrets in the model's own namespace by which images are pulled"),
    Flag("file-roots", "PATH,PATH", "folders of the nodes below which file:// sources may lie; empty: none may"),
    Flag("cache-claim", "NAME", "claim in the model's namespace that keeps downloaded weights and compiled kernels"),
    Flag("cache-node-path", "PATH", "folder of the nodes that keeps them instead"),
    Flag("offline", "", "fetch nothing from a hub: hf:// sources must be in the cache"),
    Flag("surge-priority-class", "NAME", "PriorityClass without preemption for replicas that surge"),
    Flag("allow-remote-code", "", "let manifests give --trust-remote-code: code that comes with a model runs"),
    Flag("image-volumes", "", "the cluster mounts images as volumes, which oci:// sources need"),
    Flag("s3-endpoints", "HOST,HOST", "S3 endpoints that s3:// sources may use though they lie inside the cluster"),
    Flag("listen", "HOST:PORT", "address of /livez, /readyz and /metrics", "0.0.0.0:9090"),
    Flag("lease-namespace", "NAME", "namespace of the Lease that one operator at a time holds; default: the pod's own"),
    Flag("lease-name", "NAME", "name of that Lease", "shoal-operator"),
    Flag("identity", "NAME", "this operator's name in the Lease; default: POD_NAME, else host name and process id"),
    Flag("gateway-service", "NAMESPACE/NAME", "headless Service of the gateways, which are asked for the load"),
    Flag("kubeconfig", "FILE", "how the API server is reached; default: as a pod does, else by ~/.kube/config"),
)


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """One `shoal operator`."""

    installation: Installation
    namespaces: tuple[str, ...]
    master_key: bytes
    host: str
    port: int
    lease_namespace: str
    lease_name: str
    identity: str
    gateway_service: tuple[str, str] | None
    """Namespace and name."""
    kubeconfig: Path | None


def add_flags(parser: argparse.ArgumentParser) -> None:
    """All flags; an unset one is None, so that the environment can speak."""
    for flag in FLAGS:
        said = f"{flag.help} (default {flag.default})" if flag.default else flag.help
        if flag.is_switch:
            parser.add_argument(f"--{flag.name}", action="store_true", default=None, help=said)
        else:
            parser.add_argument(f"--{flag.name}", metavar=flag.metavar, help=said)


def read(given: argparse.Namespace, environment: Mapping[str, str], pid: int) -> OperatorSettings:
    """The settings; a flag counts before its variable. Raises BadSettings with every fault, one sentence per line."""
    values = {flag.name: _value(flag, given, environment) for flag in FLAGS}
    faults: list[str] = []

    def take(name: str, parse: Callable[[str], Any]) -> Any:
        try:
            return parse(values[name])
        except BadSettings as bad:
            faults.append(f"--{name}: {bad}")
            return None

    host, port = take("listen", _address) or ("", 0)
    settings = OperatorSettings(
        installation=Installation(
            engine_image=take("engine-image", _needed),
            image_pull_policy=take("image-pull-policy", _pull_policy),
            image_pull_secrets=_names(values["image-pull-secrets"]),
            file_roots=take("file-roots", _paths),
            cache_claim=values["cache-claim"],
            cache_node_path=values["cache-node-path"],
            offline=take("offline", _switch),
            surge_priority_class=values["surge-priority-class"],
            allow_remote_code=take("allow-remote-code", _switch),
            image_volumes=take("image-volumes", _switch),
            s3_endpoints=_names(values["s3-endpoints"]),
        ),
        namespaces=_names(values["namespaces"]),
        master_key=take("master-key-file", _key),
        host=host,
        port=port,
        lease_namespace=take("lease-namespace", _own_namespace),
        lease_name=values["lease-name"],
        identity=values["identity"] or environment.get("POD_NAME") or f"{socket.gethostname()}-{pid}",
        gateway_service=take("gateway-service", _service),
        kubeconfig=Path(values["kubeconfig"]) if values["kubeconfig"] else None,
    )
    if values["cache-claim"] and values["cache-node-path"]:
        faults.append("--cache-claim: with --cache-node-path there would be two caches; give one of them")
    if faults:
        raise BadSettings("\n".join(faults))
    return settings


def _value(flag: Flag, given: argparse.Namespace, environment: Mapping[str, str]) -> str:
    chosen = getattr(given, flag.name.replace("-", "_"))
    if chosen is None:
        chosen = environment.get(flag.variable) or flag.default
    return str(chosen).strip()


def _needed(text: str) -> str:
    if not text:
        raise BadSettings("is needed")
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _paths(text: str) -> tuple[str, ...]:
    paths = _names(text)
    wrong = next((path for path in paths if not path.startswith("/") or ".." in path.split("/")), None)
    if wrong is not None:
        raise BadSettings(f"'{wrong}' is no absolute path")
    return paths


def _switch(text: str) -> bool:
    if text.lower() in ("", "0", "false", "no"):
        return False
    if text.lower() in ("1", "true", "yes"):
        return True
    raise BadSettings(f"'{text}' is neither true nor false")


def _pull_policy(text: str) -> str:
    if text not in ("Always", "IfNotPresent", "Never"):
        raise BadSettings(f"'{text}' is none of Always, IfNotPresent and Never")
    return text


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 65536:
        raise BadSettings(f"'{text}' is not HOST:PORT, for example 0.0.0.0:9090")
    return host.strip("[]"), int(port)


def _service(text: str) -> tuple[str, str] | None:
    if not text:
        return None
    namespace, slash, name = text.partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise BadSettings(f"'{text}' is not NAMESPACE/NAME")
    return namespace, name


def _own_namespace(text: str) -> str:
    if text:
        return text
    try:
        return _NAMESPACE_FILE.read_text().strip()
    except OSError as error:
        raise BadSettings("is needed outside of a pod: name a namespace for the Lease") from error


def _key(text: str) -> bytes:
    if not text:
        raise BadSettings("is needed: make one with `openssl rand -hex 32`")
    try:
        digits = Path(text).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"{text} cannot be read ({error})") from error
    if not re.fullmatch(r"[0-9a-fA-F]{64}", digits):
        raise BadSettings(f"{text} does not hold 64 hexadecimal digits")
    return bytes.fromhex(digits)
