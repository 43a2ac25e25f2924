"""Which gateways there are: every pod behind the Service while it is there, as it is, and the last known ones."""

import asyncio
from typing import Any

import pytest

from fake_cluster import FakeCluster
from shoal_operator.api_faults import Unreachable
from shoal_operator.gateway_places import GatewayPlaces, gateways
from shoal_operator.kinds import Kind, Listing, Manifest
from shoal_operator.merging import Gateway

PORTS = [{"name": "metrics", "port": 9191}, {"name": "internal", "port": 9090}]


def an_endpoint(name: str, address: str, **conditions: bool) -> dict[str, Any]:
    target = {"kind": "Pod", "name": f"pod-{name}", "uid": name}
    return {"addresses": [address], "targetRef": target, "conditions": conditions}


def a_slice(*endpoints: dict[str, Any], name: str = "gw-a", family: str = "IPv4", service: str = "gw") -> Manifest:
    metadata = {"name": name, "namespace": "shoal-system", "labels": {"kubernetes.io/service-name": service}}
    return {
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": family,
        "ports": PORTS,
        "endpoints": list(endpoints),
    }


READY = {"ready": True, "serving": True, "terminating": False}

CASES: dict[str, tuple[list[Manifest], list[Gateway]]] = {
    "a Ready pod": ([a_slice(an_endpoint("a", "10.0.0.1", **READY))], [Gateway("a", "10.0.0.1", 9090, True)]),
    "one that starts": (
        [a_slice(an_endpoint("a", "10.0.0.1", ready=False, serving=False, terminating=False))],
        [Gateway("a", "10.0.0.1", 9090, False)],
    ),
    "one that leaves and serves": (
        [a_slice(an_endpoint("a", "10.0.0.1", ready=False, serving=True, terminating=True))],
        [Gateway("a", "10.0.0.1", 9090, False)],
    ),
    "one that starts, behind a Service that publishes it": (
        [a_slice(an_endpoint("a", "10.0.0.1", ready=True, serving=False, terminating=False))],
        [Gateway("a", "10.0.0.1", 9090, False)],
    ),
    "a cluster that tells of ready alone": (
        [a_slice(an_endpoint("a", "10.0.0.1", ready=True))],
        [Gateway("a", "10.0.0.1", 9090, True)],
    ),
    "two families of addresses": (
        [
            a_slice(an_endpoint("a", "fd00::1", **READY), name="gw-6", family="IPv6"),
            a_slice(an_endpoint("a", "10.0.0.1", **READY)),
        ],
        [Gateway("a", "10.0.0.1", 9090, True)],
    ),
    "one that moves between two slices": (
        [a_slice(an_endpoint("a", "10.0.0.1")), a_slice(an_endpoint("a", "10.0.0.1", **READY), name="gw-b")],
        [Gateway("a", "10.0.0.1", 9090, True)],
    ),
    "an address that is no pod's": ([a_slice({"addresses": ["10.0.0.9"], "conditions": READY})], []),
    "an empty slice": ([a_slice() | {"endpoints": None, "ports": None}], []),
}


@pytest.mark.parametrize("case", CASES)
def test_a_gateway_counts_while_its_pod_is_there(case: str) -> None:
    slices, expected = CASES[case]
    assert list(gateways(slices)) == expected


def test_without_the_api_server_the_last_known_ones_stay_and_a_cause_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Away(FakeCluster):
        is_away = False

        async def find_all(self, kind: Kind, namespace: str | None, selector: str = "", fields: str = "") -> Listing:
            if self.is_away:
                raise Unreachable("GET /apis: no answer")
            return await super().find_all(kind, namespace, selector, fields)

    cluster = Away()
    places = GatewayPlaces(cluster, ("shoal-system", "gw"))

    async def story() -> None:
        await places.look()
        assert places.known() == ()
        for service in ("gw", "other"):
            manifest = a_slice(an_endpoint(service, "10.0.0.1", **READY), name=service, service=service)
            cluster.objects["EndpointSlice", "shoal-system", service] = manifest
        await places.look()
        assert [gateway.name for gateway in places.known()] == ["gw"]
        cluster.is_away = True
        for _ in range(3):
            await places.look()
        assert [gateway.name for gateway in places.known()] == ["gw"]

    asyncio.run(story())

    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert "no endpoint" in told[0]
    assert "no answer" in told[1]
