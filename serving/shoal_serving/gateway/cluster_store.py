"""What is known of the cluster, and which routes became others by what was heard last."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from shoal_api.routes import ModelRoute
from shoal_serving.gateway import cluster_routes
from shoal_serving.gateway.cluster_routes import Slice

Key = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True)
class Differences:
    """Routes that are new or others, and the uids of models that are gone."""

    changed: tuple[ModelRoute, ...]
    gone: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.changed or self.gone)


@dataclass(slots=True)
class Store:
    """Models and slices by name. Only what differs from what was told before is told."""

    _models: dict[Key, ModelRoute] = field(default_factory=dict)
    _slices: dict[Key, Slice] = field(default_factory=dict)
    _slices_of: dict[str, dict[Key, Slice]] = field(default_factory=dict)
    _told: dict[str, ModelRoute] = field(default_factory=dict)
    _touched: set[str] = field(default_factory=set)

    def replace_models(self, namespace: str, found: Iterable[object]) -> None:
        """A full list of the ModelDeployments in a namespace, or in all of them."""
        models = [model for item in found if (model := cluster_routes.read_model(item)) is not None]
        here = {(model.namespace, model.name): model for model in models}
        for key in [key for key in self._models if namespace in ("", key[0]) and key not in here]:
            self._set_model(key, None)
        for key, model in here.items():
            self._set_model(key, model)

    def replace_slices(self, namespace: str, found: Iterable[object]) -> None:
        """A full list of the EndpointSlices in a namespace, or in all of them."""
        slices = [each for item in found if (each := cluster_routes.read_slice(item)) is not None]
        here = {(each.namespace, each.name): each for each in slices}
        for key in [key for key in self._slices if namespace in ("", key[0]) and key not in here]:
            self._set_slice(key, None)
        for key, each in here.items():
            self._set_slice(key, each)

    def change_model(self, found: Mapping[str, Any], is_deleted: bool) -> None:
        """A ModelDeployment came, became another, or went."""
        self._set_model(_key(found), None if is_deleted else cluster_routes.read_model(found))

    def change_slice(self, found: Mapping[str, Any], is_deleted: bool) -> None:
        """An EndpointSlice came, became another, or went."""
        self._set_slice(_key(found), None if is_deleted else cluster_routes.read_slice(found))

    def differences(self) -> Differences:
        """What is other than at the last call."""
        touched, self._touched = self._touched, set()
        models = {model.uid: model for model in self._models.values() if model.uid in touched}
        changed = []
        for uid, model in models.items():
            route = cluster_routes.route(model, self._slices_of.get(uid, {}).values())
            if self._told.get(uid) != route:
                self._told[uid] = route
                changed.append(route)
        gone = tuple(uid for uid in touched if uid not in models and self._told.pop(uid, None) is not None)
        return Differences(tuple(changed), gone)

    def _set_model(self, key: Key, model: ModelRoute | None) -> None:
        before = self._models.pop(key, None)
        if model is not None:
            self._models[key] = model
        if before != model:
            self._touched |= {one.uid for one in (before, model) if one is not None}

    def _set_slice(self, key: Key, each: Slice | None) -> None:
        before = self._slices.pop(key, None)
        if before is not None:
            mates = self._slices_of[before.model_uid]
            del mates[key]
            if not mates:
                del self._slices_of[before.model_uid]
        if each is not None:
            self._slices[key] = each
            self._slices_of.setdefault(each.model_uid, {})[key] = each
        if before != each:
            self._touched |= {one.model_uid for one in (before, each) if one is not None}


def _key(found: Mapping[str, Any]) -> Key:
    meta = found.get("metadata")
    if not isinstance(meta, Mapping):
        return ("", "")
    return (str(meta.get("namespace", "")), str(meta.get("name", "")))
