"""The route table: which name leads to which model; an immutable snapshot that is swapped as a whole."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from shoal_api.routes import ModelRoute, RouteDocument


@dataclass(frozen=True, slots=True)
class RouteTable:
    """Everything a gateway routes at one moment."""

    by_name: Mapping[str, ModelRoute]
    by_uid: Mapping[str, ModelRoute]


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


def names(table: RouteTable) -> Iterable[str]:
    """Every name that leads somewhere, canonical ones first."""
    return sorted(table.by_name, key=lambda name: (table.by_name[name].served_name != name, name))


def _seniority(route: ModelRoute) -> tuple[float, str]:
    return (route.created.timestamp(), route.id)
