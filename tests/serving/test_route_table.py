"""Which name leads where, also when a document is contradictory."""

from datetime import UTC, datetime

from shoal_api.routes import ModelRoute, RouteDocument
from shoal_serving.gateway import route_table


def route(name: str, uid: str, day: int, *names: str) -> ModelRoute:
    created = datetime(2026, 1, day, tzinfo=UTC)
    return ModelRoute(namespace="d", name=name, uid=uid, created=created, served_name=names[0], names=list(names))


def test_the_older_model_keeps_a_name_that_two_have() -> None:
    old, new = route("old", "1", 1, "x", "a"), route("new", "2", 2, "b", "x")
    table = route_table.make(RouteDocument(models=[new, old]))
    assert {name: found.name for name, found in table.by_name.items()} == {"x": "old", "a": "old", "b": "new"}


def test_canonical_names_are_listed_first() -> None:
    table = route_table.make(RouteDocument(models=[route("m", "1", 1, "z", "alias"), route("n", "2", 2, "y")]))
    assert list(route_table.names(table)) == ["y", "z", "alias"]
