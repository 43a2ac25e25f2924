"""Derive what the gateway routes by from what Kubernetes shows: ModelDeployments and EndpointSlices.

Objects are read leniently: a field that this version does not know, or that is only half there, must not take a model
out of the table.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from shoal_api import engine_flags
from shoal_api.conditions import HOPELESS, ConditionType
from shoal_api.labels import HTTP_PORT_NAME, MODEL_UID
from shoal_api.routes import Endpoint, ModelRoute
from shoal_api.routing import Queue, Routing, Timeouts

_ADDRESS_TYPES = ("IPv4", "IPv6")
"""In the order of preference, where a pod has one of each: replicas listen on IPv4 everywhere."""

P = TypeVar("P", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One pod in one slice."""

    uid: str
    pod: str
    host: str
    port: int
    preference: int
    is_ready: bool
    is_ending: bool


@dataclass(frozen=True, slots=True)
class Slice:
    """The part of an EndpointSlice that counts here."""

    namespace: str
    name: str
    model_uid: str
    candidates: tuple[Candidate, ...]


def read_model(found: object) -> ModelRoute | None:
    """The route of a ModelDeployment, without endpoints; None for what has no identity or is being deleted."""
    meta = _mapping(_mapping(found).get("metadata"))
    namespace, name, uid = (_text(meta.get(key)) for key in ("namespace", "name", "uid"))
    created = _time(meta.get("creationTimestamp"))
    if not (namespace and name and uid) or created is None or meta.get("deletionTimestamp"):
        return None
    spec, status = (_mapping(_mapping(found).get(part)) for part in ("spec", "status"))
    claimed = _texts(_mapping(spec.get("model")).get("names"))
    ready = _condition(status, ConditionType.READY)
    message = _text(ready.get("message"))
    return ModelRoute(
        namespace=namespace,
        name=name,
        uid=uid,
        created=created,
        served_name=claimed[0] if claimed else name,
        names=_texts(status.get("names")),
        revision=_text(status.get("revision")),
        reasoning_parser=engine_flags.separates_reasoning(_texts(_mapping(spec.get("engine")).get("args"))),
        queue=_part(Queue, spec.get("queue")),
        timeouts=_part(Timeouts, spec.get("timeouts")),
        routing=_part(Routing, spec.get("routing")),
        cannot_start=message if _text(ready.get("reason")) in HOPELESS else "",
        condition=message,
    )


def read_slice(found: object) -> Slice | None:
    """An EndpointSlice; None for one that belongs to no model, or whose addresses are names."""
    whole = _mapping(found)
    meta = _mapping(whole.get("metadata"))
    model_uid = _text(_mapping(meta.get("labels")).get(MODEL_UID))
    namespace, name, kind = _text(meta.get("namespace")), _text(meta.get("name")), whole.get("addressType")
    if not (model_uid and namespace and name) or kind not in _ADDRESS_TYPES:
        return None
    port = _port(whole.get("ports"))
    candidates = (_candidate(item, port, _ADDRESS_TYPES.index(kind)) for item in _list(whole.get("endpoints")))
    return Slice(namespace, name, model_uid, tuple(one for one in candidates if one is not None))


def route(model: ModelRoute, slices: Iterable[Slice]) -> ModelRoute:
    """The model with the endpoints that its slices show: ready ones that do not end.

    While Kubernetes moves a pod from one slice to another, both may show it, one of them as it was before. Ending is
    final, so it counts wherever it stands; of the rest, ready counts.
    """
    pods: dict[str, list[Candidate]] = {}
    for each in slices:
        if each.model_uid == model.uid and each.namespace == model.namespace:
            for candidate in each.candidates:
                pods.setdefault(candidate.uid, []).append(candidate)
    chosen = []
    for shown in pods.values():
        ready = [one for one in shown if one.is_ready]
        if ready and not any(one.is_ending for one in shown):
            chosen.append(min(ready, key=lambda one: (one.preference, one.host, one.port)))
    endpoints = [
        Endpoint(replica=one.pod, uid=one.uid, host=one.host, port=one.port, revision=_revision(one.pod))
        for one in sorted(chosen, key=lambda one: (one.pod, one.uid))
    ]
    return model.model_copy(update={"endpoints": endpoints})


def _candidate(found: object, port: int | None, preference: int) -> Candidate | None:
    """None for an endpoint that is no pod, or has no address or port: nobody could prove to be it."""
    item = _mapping(found)
    target, conditions = _mapping(item.get("targetRef")), _mapping(item.get("conditions"))
    uid, pod, hosts = _text(target.get("uid")), _text(target.get("name")), _texts(item.get("addresses"))
    if target.get("kind") != "Pod" or not (uid and pod and hosts) or port is None:
        return None
    return Candidate(
        uid=uid,
        pod=pod,
        host=hosts[0],
        port=port,
        preference=preference,
        # What the API leaves open it wants to be taken as true.
        is_ready=conditions.get("ready") is not False and conditions.get("serving") is not False,
        is_ending=conditions.get("terminating") is True,
    )


def _port(found: object) -> int | None:
    for item in _list(found):
        port = _mapping(item).get("port")
        if _mapping(item).get("name") == HTTP_PORT_NAME and isinstance(port, int) and 0 < port < 65536:
            return port
    return None


def _revision(pod: str) -> str:
    """Pods are named MODEL-REVISION-INDEX."""
    parts = pod.rsplit("-", 2)
    return parts[1] if len(parts) == 3 else ""


def _condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    found = (_mapping(item) for item in _list(status.get("conditions")))
    return next((item for item in found if item.get("type") == kind), {})


def _part(cls: type[P], found: object) -> P:
    """A part of the spec: what is unknown or cannot be is left to its default."""
    names = {field.alias or name for name, field in cls.model_fields.items()}
    known = {name: value for name, value in _mapping(found).items() if name in names}
    try:
        return cls.model_validate(known)
    except ValidationError as error:
        wrong = {str(fault["loc"][0]) for fault in error.errors() if fault["loc"]}
        return cls.model_validate({name: value for name, value in known.items() if name not in wrong})


def _time(found: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(_text(found))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _mapping(found: object) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}


def _list(found: object) -> list[Any]:
    return found if isinstance(found, list) else []


def _text(found: object) -> str:
    return found if isinstance(found, str) else ""


def _texts(found: object) -> list[str]:
    return [item for item in _list(found) if isinstance(item, str) and item]
