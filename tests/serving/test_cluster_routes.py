"""What Kubernetes shows becomes routes: half-filled and unknown things take nothing away that is whole."""

from typing import Any

import pytest

from cluster_objects import a_model, a_slice, an_endpoint
from shoal_api.conditions import Reason
from shoal_api.routes import ModelRoute
from shoal_api.routing import Queue, Routing
from shoal_serving.gateway import cluster_routes


def route_of(model: dict[str, Any], *slices: dict[str, Any]) -> ModelRoute:
    read = cluster_routes.read_model(model)
    assert read is not None
    found = [cluster_routes.read_slice(item) for item in slices]
    return cluster_routes.route(read, [each for each in found if each is not None])


def uids(*slices: dict[str, Any]) -> list[str]:
    return [endpoint.uid for endpoint in route_of(a_model(), *slices).endpoints]


def test_a_model_with_one_ready_pod() -> None:
    route = route_of(a_model(spec={"queue": {"maxWaiting": 7}}), a_slice(an_endpoint("m-f00-3", "10.1.2.3")))
    (endpoint,) = route.endpoints
    assert (route.id, route.uid, route.served_name, route.names) == ("default/m", "uid-m", "m", ["m", "m-alias"])
    assert (endpoint.replica, endpoint.uid, endpoint.host, endpoint.port) == (
        "m-f00-3",
        "uid-m-f00-3",
        "10.1.2.3",
        30000,
    )
    assert (endpoint.revision, route.queue.max_waiting) == ("f00", 7)


@pytest.mark.parametrize(
    ("conditions", "is_in"),
    [
        ({}, True),
        ({"ready": None, "serving": None, "terminating": None}, True),
        ({"ready": False}, False),
        ({"terminating": True}, False),
        ({"ready": False, "serving": True, "terminating": True}, False),
        ({"ready": True, "serving": False}, False),
        ({"ready": True, "of-a-later-version": False}, True),
    ],
)
def test_ready_pods_that_do_not_end_are_endpoints(conditions: dict[str, Any], is_in: bool) -> None:
    assert bool(uids(a_slice(an_endpoint(**conditions)))) is is_in


def test_an_endpoint_without_conditions_is_ready() -> None:
    bare = an_endpoint()
    del bare["conditions"]
    assert uids(a_slice(bare)) == ["uid-m-rev-0"]


@pytest.mark.parametrize(
    "change",
    [
        {"targetRef": None},
        {"targetRef": {"kind": "Pod", "name": "m-rev-0"}},
        {"targetRef": {"kind": "Node", "name": "m-rev-0", "uid": "u"}},
        {"addresses": []},
        {"addresses": None},
    ],
)
def test_an_endpoint_that_is_no_pod_or_has_no_address_is_none_and_its_neighbour_stays(change: dict[str, Any]) -> None:
    assert uids(a_slice({**an_endpoint(), **change}, an_endpoint("m-rev-1"))) == ["uid-m-rev-1"]


@pytest.mark.parametrize(
    "fields",
    [
        {"addressType": "FQDN"},
        {"addressType": None},
        {"ports": None},
        {"ports": [{"name": "metrics", "port": 30000}]},
        {"ports": [{"name": "http", "port": None}]},
        {"ports": [{"name": "http", "port": 70000}]},
        {"endpoints": None},
        {"endpoints": "none"},
        {"namespace": "other"},
        {"model_uid": "uid-of-another"},
    ],
)
def test_a_slice_that_leads_nowhere_gives_nothing(fields: dict[str, Any]) -> None:
    model = route_of(a_model(), a_slice(an_endpoint(), **fields))
    assert model.endpoints == []


@pytest.mark.parametrize(
    ("first", "second", "is_in"),
    [
        ({}, {}, True),
        ({"ready": False}, {}, True),
        ({}, {"terminating": True}, False),
        ({"terminating": True, "ready": False}, {}, False),
        ({"ready": False}, {"ready": False}, False),
    ],
)
def test_a_pod_in_two_slices_is_one_endpoint_and_ending_is_final(
    first: dict[str, Any], second: dict[str, Any], is_in: bool
) -> None:
    found = uids(a_slice(an_endpoint(**first), name="a"), a_slice(an_endpoint(**second), name="b"))
    assert found == (["uid-m-rev-0"] if is_in else [])


def test_of_two_address_families_it_is_reached_by_the_first() -> None:
    six = a_slice(an_endpoint(host="fd00::1"), name="six", addressType="IPv6")
    four = a_slice(an_endpoint(host="10.0.0.1"), name="four")
    assert [endpoint.host for endpoint in route_of(a_model(), six, four).endpoints] == ["10.0.0.1"]
    assert [endpoint.host for endpoint in route_of(a_model(), six).endpoints] == ["fd00::1"]


def test_an_address_used_again_is_another_endpoint() -> None:
    old, new = an_endpoint("m-rev-0", "10.0.0.1", "old"), an_endpoint("m-rev-1", "10.0.0.1", "new")
    assert uids(a_slice({**old, "conditions": {"ready": False}}, new)) == ["new"]


def test_a_model_made_anew_under_its_name_does_not_inherit_pods() -> None:
    assert route_of(a_model(uid="second"), a_slice(an_endpoint(), model_uid="first")).endpoints == []


def test_the_order_of_slices_and_endpoints_does_not_matter() -> None:
    one, two = a_slice(an_endpoint("m-rev-0"), name="a"), a_slice(an_endpoint("m-rev-1"), name="b")
    assert route_of(a_model(), one, two) == route_of(a_model(), two, one)


@pytest.mark.parametrize(
    ("pod", "revision"),
    [("m-0123456789-0", "0123456789"), ("a-b-c-rev-12", "rev"), ("m1234abcd-rev-0", "rev"), ("x", "")],
)
def test_the_revision_stands_in_the_name_of_the_pod(pod: str, revision: str) -> None:
    assert route_of(a_model(), a_slice(an_endpoint(pod))).endpoints[0].revision == revision


def test_names_are_the_granted_ones_and_the_first_claimed_is_what_the_engine_serves() -> None:
    model = a_model(spec={"model": {"names": ["canonical", "taken"]}}, status={"names": ["canonical"]})
    route = route_of(model)
    assert (route.served_name, route.names) == ("canonical", ["canonical"])


@pytest.mark.parametrize(
    "status",
    [None, {}, "text", {"names": None}, {"names": 3}, {"names": [], "conditions": [None, {}, {"type": "Ready"}]}],
)
def test_a_half_filled_status_is_a_model_without_names(status: Any) -> None:
    route = route_of({**a_model(), "status": status})
    assert (route.names, route.cannot_start, route.condition) == ([], "", "")


@pytest.mark.parametrize(
    ("reason", "cannot_start"),
    [
        (Reason.CANNOT_START, "it broke"),
        (Reason.INVALID_SPEC, "it broke"),
        (Reason.NOT_BUILT, "it broke"),
        (Reason.STARTING, ""),
        ("AReasonOfLater", ""),
    ],
)
def test_what_waiting_does_not_heal_is_said_at_once(reason: str, cannot_start: str) -> None:
    status = {"conditions": [{"type": "Ready", "status": "False", "reason": reason, "message": "it broke"}]}
    route = route_of(a_model(status=status))
    assert (route.cannot_start, route.condition) == (cannot_start, "it broke")


@pytest.mark.parametrize(
    "spec",
    [
        {"queue": {"maxWaiting": 5, "ofLater": 1}},
        {"queue": {"maxWaiting": 5, "maxWaitSeconds": -1}},
        {"queue": {"maxWaiting": 5, "maxWaitSeconds": "soon", "maxInFlightPerReplica": None}},
    ],
)
def test_unknown_and_impossible_fields_cost_only_themselves(spec: dict[str, Any]) -> None:
    assert route_of(a_model(spec=spec)).queue == Queue(max_waiting=5)


@pytest.mark.parametrize("routing", [{"policy": "OfLater"}, {"policy": 3, "x": 1}, [], None, "LeastLoad"])
def test_an_unknown_policy_is_the_default_one(routing: Any) -> None:
    assert route_of(a_model(spec={"routing": routing})).routing == Routing()


@pytest.mark.parametrize(
    "meta",
    [
        {"deletionTimestamp": "2026-01-03T00:00:00Z"},
        {"uid": None},
        {"name": ""},
        {"creationTimestamp": None},
        {"creationTimestamp": "yesterday"},
    ],
)
def test_what_goes_or_has_no_identity_is_no_model(meta: dict[str, Any]) -> None:
    assert cluster_routes.read_model(a_model(metadata=meta)) is None


@pytest.mark.parametrize("found", [None, 3, "x", [], {}, {"metadata": []}, {"metadata": {"labels": []}}])
def test_what_is_no_object_is_nothing(found: Any) -> None:
    assert cluster_routes.read_model(found) is None
    assert cluster_routes.read_slice(found) is None
