"""The route table: which name leads to which model; an immutable snapshot that is swapped as a whole."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from shoal_api.routes import ModelRoute, RouteDocument


@dataclass(frozen=True, slots=True)
class RouteTable:
    """Everything a gateway routes at one moment."""

    by_name: Mapping[str, ModelRoute]
    by_uid: Mapping[str, ModelRoute]


_FEW_NAMES = 16
"""Of more touched names the claimants are found sooner by making the table anew."""

EMPTY = RouteTable(MappingProxyType({}), MappingProxyType({}))


def make(document: RouteDocument) -> RouteTable:
    """The table of a document. Of two models with one name the older one keeps it, then namespace/name in order."""
    by_name: dict[str, ModelRoute] = {}
    by_uid: dict[str, ModelRoute] = {}
    for route in sorted(document.models, key=_seniority):
        by_uid.setdefault(route.uid, route)
        for name in route.names:
            by_name.setdefault(name, route)
    return RouteTable(MappingProxyType(by_name), MappingProxyType(by_uid))


def changed(table: RouteTable, routes: Collection[ModelRoute], gone: Collection[str]) -> RouteTable:
    """The table with these routes in place of what it had, and without the models that are gone; the same as `make`.

    What a change costs is a copy of two mappings and a look at the names that it touches, not a table made anew.
    """
    by_uid = dict(table.by_uid)
    touched = {name for route in routes for name in route.names}
    for uid in (*gone, *(route.uid for route in routes)):
        if uid in by_uid:
            touched.update(by_uid.pop(uid).names)
    by_uid.update((route.uid, route) for route in routes)
    if len(touched) > _FEW_NAMES:
        return make(RouteDocument.model_construct(models=list(by_uid.values())))
    by_name = dict(table.by_name)
    for name in touched:
        claimants = [route for route in by_uid.values() if name in route.names]
        if claimants:
            by_name[name] = min(claimants, key=_seniority)
        else:
            by_name.pop(name, None)
    return RouteTable(MappingProxyType(by_name), MappingProxyType(by_uid))


def names(table: RouteTable) -> Iterable[str]:
    """Every name that leads somewhere, canonical ones first."""
    return sorted(table.by_name, key=lambda name: (table.by_name[name].served_name != name, name))


def _seniority(route: ModelRoute) -> tuple[float, str]:
    return (route.created.timestamp(), route.id)
