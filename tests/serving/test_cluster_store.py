"""Only what became another route is told."""

from typing import Any

import pytest

from cluster_objects import a_model, a_slice, an_endpoint
from shoal_serving.gateway import cluster_wire
from shoal_serving.gateway.cluster_store import Store
from shoal_serving.gateway.cluster_wire import Commit, Gone, State, Told, Unreadable, WatchState, Whole


def told(store: Store) -> tuple[dict[str, list[str]], set[str]]:
    """The pods of each changed model, and the uids of the gone ones."""
    found = store.differences()
    return {route.uid: [one.replica for one in route.endpoints] for route in found.changed}, set(found.gone)


def filled() -> Store:
    store = Store()
    store.replace_models("", [a_model("m"), a_model("n")])
    store.replace_slices("", [a_slice(an_endpoint())])
    assert told(store) == ({"uid-m": ["m-rev-0"], "uid-n": []}, set())
    return store


def test_the_same_list_again_tells_nothing() -> None:
    store = filled()
    store.replace_models("", [a_model("m"), a_model("n")])
    store.replace_slices("", [a_slice(an_endpoint())])
    assert told(store) == ({}, set())


def test_a_changed_slice_tells_its_model_only() -> None:
    store = filled()
    store.change_slice(a_slice(an_endpoint(), an_endpoint("m-rev-1")), is_deleted=False)
    assert told(store) == ({"uid-m": ["m-rev-0", "m-rev-1"]}, set())


def test_a_change_that_makes_no_other_route_tells_nothing() -> None:
    store = filled()
    store.change_slice(a_slice(an_endpoint(), an_endpoint("m-rev-1", ready=False)), is_deleted=False)
    store.change_model(a_model("m", status={"replicas": 3, "load": {"waiting": 4}}), is_deleted=False)
    assert told(store) == ({}, set())


def test_slices_before_their_model_are_kept_for_it() -> None:
    store = Store()
    store.change_slice(a_slice(an_endpoint()), is_deleted=False)
    assert told(store) == ({}, set())
    store.change_model(a_model(), is_deleted=False)
    assert told(store) == ({"uid-m": ["m-rev-0"]}, set())


def test_a_deleted_model_is_gone_and_its_slices_go_in_silence() -> None:
    store = filled()
    store.change_model(a_model(), is_deleted=True)
    assert told(store) == ({}, {"uid-m"})
    store.change_slice(a_slice(an_endpoint()), is_deleted=True)
    assert told(store) == ({}, set())


def test_a_model_on_its_way_out_is_gone() -> None:
    store = filled()
    store.change_model(a_model(metadata={"deletionTimestamp": "2026-01-03T00:00:00Z"}), is_deleted=False)
    assert told(store) == ({}, {"uid-m"})


def test_a_model_made_anew_under_its_name_is_another_one() -> None:
    store = filled()
    store.change_model(a_model(uid="second"), is_deleted=False)
    assert told(store) == ({"second": []}, {"uid-m"})
    store.change_slice(a_slice(an_endpoint("m-rev-0", uid="new"), model_uid="second", name="s2"), is_deleted=False)
    assert told(store) == ({"second": ["m-rev-0"]}, set())


def test_a_slice_that_passes_to_another_model_leaves_the_first() -> None:
    store = filled()
    store.change_slice(a_slice(an_endpoint(), model_uid="uid-n"), is_deleted=False)
    assert told(store) == ({"uid-m": [], "uid-n": ["m-rev-0"]}, set())


def test_a_list_of_one_namespace_says_nothing_of_another() -> None:
    store = Store()
    store.replace_models("a", [a_model("m", "a", "u-a")])
    store.replace_models("b", [a_model("m", "b", "u-b")])
    assert told(store) == ({"u-a": [], "u-b": []}, set())
    store.replace_models("a", [])
    assert told(store) == ({}, {"u-a"})


def test_what_is_missing_in_a_later_list_is_gone() -> None:
    store = filled()
    store.replace_models("", [a_model("n")])
    store.replace_slices("", [])
    assert told(store) == ({}, {"uid-m"})


def test_a_model_that_came_and_went_unseen_is_not_told() -> None:
    store = filled()
    store.change_model(a_model("x"), is_deleted=False)
    store.change_model(a_model("x"), is_deleted=True)
    assert told(store) == ({}, set())


@pytest.mark.parametrize(
    "one",
    [
        Gone("uid-m"),
        Whole(),
        Commit(),
        State({"endpointslices": WatchState(0.5, 2, {"Closed": 1})}),
        State({}),
    ],
)
def test_the_pipe_carries_what_it_is_given(one: Told) -> None:
    assert cluster_wire.decode(cluster_wire.encode([one]).rstrip(b"\n")) == one


def test_the_pipe_carries_routes_in_one_line_each() -> None:
    store = Store()
    store.replace_models("", [a_model("m"), a_model("n", status={"names": ["ü", "new\nline"]})])
    routes = store.differences().changed
    lines = cluster_wire.encode(routes).split(b"\n")
    assert [cluster_wire.decode(line) for line in lines if line] == list(routes)


@pytest.mark.parametrize("line", [b"", b"X", b"R{}", b"Rnonsense", b"S[", b"G\xff"])
def test_a_line_that_nobody_writes_is_refused(line: Any) -> None:
    with pytest.raises(Unreadable):
        cluster_wire.decode(line)
