"""A small API server in memory: what the operator's world needs of one, with a call at which everything ends."""

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from shoal_operator.api_faults import ApiFault
from shoal_operator.kinds import EVENT, MADE, MODEL, POD, Kind, Listing, Manifest, label, name, namespace, uid

CREATED = "2026-11-21T12:00:00Z"
Key = tuple[str, str, str]


class Died(BaseException):
    """The operator was killed at this call."""


@dataclass
class FakeCluster:
    """Implements cluster_world.Door. `calls` are writes; reads are counted by themselves."""

    objects: dict[Key, Manifest] = field(default_factory=lambda: {("PriorityClass", "", "shoal-surge"): _surge_class()})
    writes: list[str] = field(default_factory=list)
    reads: int = 0
    dies_before: int | None = None
    """The write with this number is not carried out."""
    dies_after: int | None = None
    """The write with this number is carried out, and nobody hears of it."""
    refuses: Callable[[str, Kind, Manifest], ApiFault | None] = lambda _method, _kind, _manifest: None
    version: int = 100
    graces: dict[str, int | None] = field(default_factory=dict)
    """What was asked for with each deletion, by name."""

    async def find_all(self, kind: Kind, namespace: str | None, selector: str = "", fields: str = "") -> Listing:
        self.reads += 1
        key, _, value = selector.partition("=")
        found_all = [
            copy.deepcopy(found)
            for (kind_name, where, _), found in self.objects.items()
            if kind_name == kind.name
            and namespace in (None, where)
            and (not key or (label(found, key) == value if value else bool(label(found, key))))
        ]
        return Listing(found_all, self.version)

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        self.reads += 1
        return copy.deepcopy(self.objects.get((kind.name, namespace or "", name)))

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        self._begin("create", kind, manifest)
        key = _key(kind, manifest)
        if key in self.objects:
            raise self._fault(409, f"{key} already exists")
        return self._end(self._store(kind, _new(manifest, self.version)))

    async def rehearse(self, kind: Kind, manifest: Manifest) -> None:
        """Refused as `create` is, and nothing made."""
        self.reads += 1
        refusal = self.refuses("rehearse", kind, manifest)
        if refusal is not None:
            raise refusal

    async def apply(self, kind: Kind, manifest: Manifest, subresource: str = "") -> Manifest:
        self._begin(f"apply {subresource}".strip(), kind, manifest)
        known = self.objects.get(_key(kind, manifest))
        if known is None:
            if subresource:
                raise self._fault(404, "not found")
            return self._end(self._store(kind, _new(manifest, self.version)))
        if manifest["metadata"].get("uid", uid(known)) != uid(known):
            raise self._fault(409, "uid mismatch")
        changed = {**known, "status": manifest["status"]} if subresource else _merged(known, manifest)
        return self._end(self._store(kind, changed))

    async def replace(self, kind: Kind, manifest: Manifest) -> Manifest:
        self._begin("replace", kind, manifest)
        known = self.objects[_key(kind, manifest)]
        if known["metadata"]["resourceVersion"] != manifest["metadata"]["resourceVersion"]:
            raise self._fault(409, "changed meanwhile")
        if json.dumps(known.get("data")) != json.dumps(manifest.get("data")):
            raise self._fault(422, "data: field is immutable")
        return self._end(self._store(kind, copy.deepcopy(manifest)))

    async def patch(self, kind: Kind, namespace: str, name: str, change: Manifest) -> Manifest:
        known = self.objects[kind.name, namespace, name]
        self._begin("patch", kind, known)
        return self._end(self._store(kind, _merged(known, change)))

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str, grace_seconds: int | None = None) -> None:
        self.graces[name] = grace_seconds
        known = self.objects.get((kind.name, namespace, name))
        if known is None or known["metadata"]["uid"] != uid:
            return
        self._begin("delete", kind, known)
        if kind == POD and known["status"].get("phase") == "Running":
            self._store(kind, _merged(known, {"metadata": {"deletionTimestamp": "2026-11-21T12:10:00Z"}}))
        else:
            del self.objects[kind.name, namespace, name]
        self._end({})

    def add(self, manifest: Manifest) -> Manifest:
        """What somebody else made."""
        kind = next(k for k in (MODEL, *MADE) if k.name == manifest["kind"])
        self.version += 1
        return self._store(kind, _new(manifest, self.version))

    def change(self, kind: Kind, found: Manifest, change: Manifest) -> Manifest:
        """What somebody else changed."""
        known = self.objects[_key(kind, found)]
        return self._store(kind, _merged(known, change))

    def remove(self, kind: Kind, found: Manifest) -> None:
        """What somebody else removed."""
        del self.objects[_key(kind, found)]

    def of(self, kind: Kind) -> list[Manifest]:
        """All objects of a kind, as they are."""
        return [found for (kind_name, _, _), found in sorted(self.objects.items()) if kind_name == kind.name]

    def names(self, kind: Kind) -> list[str]:
        return [name(found) for found in self.of(kind)]

    def run_pods(self) -> None:
        """Do what kubelets do: what is new becomes ready, what was told to go is gone."""
        for pod in self.of(POD):
            if pod["metadata"].get("deletionTimestamp"):
                self.remove(POD, pod)
            elif pod["status"].get("phase") != "Running":
                self.change(POD, pod, {"status": running()})

    def _begin(self, method: str, kind: Kind, manifest: Manifest) -> None:
        refusal = self.refuses(method, kind, manifest)
        if self.dies_before == len(self.writes):
            raise Died
        self.writes.append(f"{method} {kind.name} {name(manifest)}")
        if refusal is not None:
            raise refusal

    def _end(self, answer: Manifest) -> Manifest:
        if self.dies_after == len(self.writes) - 1:
            raise Died
        return copy.deepcopy(answer)

    def _fault(self, status: int, message: str) -> ApiFault:
        if self.dies_after == len(self.writes) - 1:
            raise Died
        return ApiFault(status, message)

    def _store(self, kind: Kind, manifest: Manifest) -> Manifest:
        self.version += 1
        manifest["metadata"]["resourceVersion"] = str(self.version)
        if kind == POD:
            manifest.setdefault("status", {"phase": "Pending"})
        self.objects[_key(kind, manifest)] = manifest
        return manifest


def running(*, ready: bool = True, at: str = "2026-11-21T12:00:10Z", restarts: int = 0) -> dict[str, Any]:
    """The status of a pod whose engine runs."""
    return {
        "phase": "Running",
        "podIP": "10.0.0.7",
        "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": CREATED},
            {"type": "Ready", "status": str(ready), "lastTransitionTime": at},
        ],
        "containerStatuses": [{"name": "engine", "restartCount": restarts, "state": {"running": {"startedAt": at}}}],
    }


def _surge_class() -> Manifest:
    """As the chart makes it."""
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": "shoal-surge"},
        "value": 0,
        "preemptionPolicy": "Never",
    }


def _key(kind: Kind, manifest: Manifest) -> Key:
    return (kind.name, namespace(manifest), name(manifest))


def _new(manifest: Manifest, version: int) -> Manifest:
    made = copy.deepcopy(manifest)
    made["metadata"].setdefault("uid", f"uid-{manifest['kind']}-{name(manifest)}-{version}")
    made["metadata"].setdefault("creationTimestamp", CREATED)
    return made


def _merged(known: Manifest, change: Manifest) -> Manifest:
    merged = copy.deepcopy(known)
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merged(merged[key], value)
        elif value is None:
            merged.pop(key, None)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def condition(cluster: FakeCluster, kind: str = "Ready", name: str = "qwen") -> tuple[str, str, str]:
    """Status, reason and message of one of the model's conditions."""
    status = cluster.objects["ModelDeployment", "team", name]["status"]
    found = next(c for c in status["conditions"] if c["type"] == kind)
    return found["status"], found["reason"], found["message"]


def events(cluster: FakeCluster) -> list[tuple[str, str, int]]:
    """Type, reason and count of every Event."""
    return [(event["type"], event["reason"], event["count"]) for event in cluster.of(EVENT)]
