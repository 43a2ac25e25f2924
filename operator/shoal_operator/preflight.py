"""Decide what speaks against a pod before an old one goes for it: what it needs and is not there, a quota, a name."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from shoal_operator import kinds
from shoal_operator.kinds import CLAIM, CONFIG_MAP, SECRET, Kind, Manifest

_IMAGE = re.compile(r"[a-z0-9]+([._:/-]+[a-zA-Z0-9_]+)*(@sha256:[0-9a-f]{64})?")
_QUOTA = re.compile(r"exceeded quota: ([^,]+), requested: (\S+), used: (\S+), limited: (\S+)")
_QUANTITY = re.compile(r"([0-9.]+)(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?")
_UNITS: Mapping[str, Decimal] = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTP", start=1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTP", start=1)},
}


@dataclass(frozen=True, slots=True)
class Need:
    """An object of the model's own namespace without which a pod cannot start, and the keys that it must have."""

    kind: Kind
    name: str
    keys: frozenset[str] = frozenset()


def needs(pod: Manifest, made_by_us: str) -> list[Need]:
    """Everything that the pod names and that its owner has to make; not `made_by_us`, the model's own Secret."""
    keys: dict[tuple[Kind, str], set[str]] = {}
    for kind, reference in _references(pod["spec"]):
        name = reference.get("name") or reference.get("secretName") or reference.get("claimName")
        if not name or reference.get("optional") or (kind is SECRET and name == made_by_us):
            continue
        wanted = keys.setdefault((kind, name), set())
        if "key" in reference:
            wanted.add(reference["key"])
        wanted |= {item["key"] for item in reference.get("items", [])}
    return [Need(kind, name, frozenset(of_it)) for (kind, name), of_it in keys.items()]


def _references(spec: Manifest) -> Iterator[tuple[Kind, Manifest]]:
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        for variable in container.get("env", []):
            source = variable.get("valueFrom", {})
            yield SECRET, source.get("secretKeyRef", {})
            yield CONFIG_MAP, source.get("configMapKeyRef", {})
        for source in container.get("envFrom", []):
            yield SECRET, source.get("secretRef", {})
            yield CONFIG_MAP, source.get("configMapRef", {})
    for volume in spec.get("volumes", []):
        for each in [volume, *volume.get("projected", {}).get("sources", [])]:
            yield SECRET, each.get("secret", {})
            yield CONFIG_MAP, each.get("configMap", {})
        yield CLAIM, volume.get("persistentVolumeClaim", {})


def lacking(need: Need, found: Manifest | None, where: str) -> str:
    """What is wrong with an object that a pod needs; nothing where it will do."""
    what = {SECRET: "Secret", CONFIG_MAP: "ConfigMap"}.get(need.kind, "claim")
    if found is None:
        return f'the {what} "{need.name}" is not in namespace {where}: make it, or name another in the manifest'
    if need.kind is CLAIM:
        if found.get("status", {}).get("phase") == "Lost":
            return f'the claim "{need.name}" in namespace {where} has lost its volume: name another in the manifest'
        return ""
    missing = sorted(need.keys - {*found.get("data", {}), *found.get("binaryData", {})})
    if missing:
        return f'the {what} "{need.name}" in namespace {where} has no key {missing[0]}: add it, or name another'
    return ""


def misnamed_image(pod: Manifest) -> str:
    """An image whose name no node can read."""
    for container in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]:
        if not _IMAGE.fullmatch(container.get("image", "")):
            return f'"{container.get("image", "")}" is no name of an image: change spec.engine.image'
    return ""


def is_quota(message: str) -> bool:
    """Whether the API server refused a pod because the namespace has used up what it may."""
    return "exceeded quota" in message


def outgrown(message: str, new: Sequence[Manifest], old: Sequence[Manifest]) -> str:
    """Why the quota is too small for the new pods even when the old ones have gone; nothing where it is not."""
    found = _QUOTA.search(message)
    if found is None:
        return ""
    name, used, limited = found.group(1), _amounts(found.group(3)), _amounts(found.group(4))
    for resource, limit in limited.items():
        wanted, freed = (sum((asked(pod, resource) for pod in pods), Decimal()) for pods in (new, old))
        left = used.get(resource, Decimal()) - freed + wanted
        if left > limit:
            return (
                f"the quota {name} allows {limit.normalize():f} {resource} and {left.normalize():f} would be used: "
                "ask for less in spec.resources, or have the quota raised"
            )
    return ""


def asked(pod: Manifest, resource: str) -> Decimal:
    """What a pod counts for a quota's resource, such as `pods`, `requests.nvidia.com/gpu` or `limits.memory`."""
    if resource in ("pods", "count/pods"):
        return Decimal(1)
    side, _, name = resource.partition(".")
    if side not in ("requests", "limits"):
        side, name = "requests", resource
    total = Decimal()
    for container in pod["spec"]["containers"]:
        resources = container.get("resources", {})
        total += amount(str(resources.get(side, {}).get(name, resources.get("limits", {}).get(name, "0"))))
    return total


def amount(text: str) -> Decimal:
    """A quantity as Kubernetes writes it; 0 for one that cannot be read."""
    found = _QUANTITY.fullmatch(text)
    return Decimal(found.group(1)) * _UNITS[found.group(2) or ""] if found else Decimal()


def _amounts(text: str) -> dict[str, Decimal]:
    pairs = (item.rpartition("=") for item in text.rstrip(",").split(","))
    return {name: amount(value) for name, _, value in pairs}


def one_of_each_replica(pods: Sequence[Manifest], revision: str) -> list[Manifest]:
    """The pods of one replica of another revision: those that go for a new one, as many as that one has."""
    of_others = [pod for pod in pods if not kinds.is_leaving(pod) and kinds.revision(pod) != revision]
    if not of_others:
        return []
    first = kinds.replica(of_others[0])
    return [pod for pod in of_others if kinds.replica(pod) == first]
