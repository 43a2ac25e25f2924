"""Which name leads where, also when a document is contradictory."""

from datetime import UTC, datetime
from random import Random

import pytest

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


@pytest.mark.parametrize("seed", range(8))
def test_a_changed_table_is_the_one_that_would_be_made_anew(seed: int) -> None:
    random = Random(seed)
    in_force: dict[str, ModelRoute] = {}
    table = route_table.EMPTY
    for _ in range(40):
        routes = []
        for uid in random.sample(range(12), random.choice([0, 1, 1, 2, 8])):
            names = random.sample("abcdefghij", random.randint(1, 4))
            routes.append(route(f"m{uid}", str(uid), 1 + uid % 3, *names))
        gone = [uid for uid in random.sample([str(uid) for uid in range(12)], 2) if uid not in {r.uid for r in routes}]
        in_force = {**{uid: r for uid, r in in_force.items() if uid not in gone}, **{r.uid: r for r in routes}}

        table = route_table.changed(table, routes, gone)

        anew = route_table.make(RouteDocument(models=list(in_force.values())))
        assert dict(table.by_name) == dict(anew.by_name)
        assert dict(table.by_uid) == dict(anew.by_uid)


def test_a_table_without_models_is_not_the_one_of_the_beginning() -> None:
    assert route_table.changed(route_table.EMPTY, [], []) is not route_table.EMPTY
