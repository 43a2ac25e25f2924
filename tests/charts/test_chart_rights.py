"""Who may do what, and who reaches whom: the roles and network policies of the chart."""

from typing import Any

import pytest

from builders import a_model
from chart import NAMESPACE, Manifest, names, one, render
from chart_values import SETS
from shoal_operator import inspecting, pods
from shoal_operator.installation import Installation
from shoal_operator.objects import RAY_PORT


@SETS
def test_a_binding_gives_a_role_that_is_there(values: dict[str, Any]) -> None:
    objects = render(values)
    for item in objects:
        if item["kind"] in ("RoleBinding", "ClusterRoleBinding"):
            role = one(
                [it for it in objects if it["metadata"].get("namespace") == item["metadata"].get("namespace")],
                item["roleRef"]["kind"],
                item["roleRef"]["name"],
            )
            assert role["rules"]


@SETS
def test_no_role_has_a_wildcard(values: dict[str, Any]) -> None:
    for item in render(values):
        for rule in item.get("rules", []) if "Role" in item["kind"] else []:
            assert "*" not in rule["apiGroups"] + rule["resources"] + rule["verbs"]


def test_the_operators_role_is_what_the_operator_says_it_needs() -> None:
    rules = one(render({}), "ClusterRole", "shoal-operator-shoal-system")["rules"]
    given = {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }

    assert given == {
        (kind.group, f"{kind.plural}/{subresource}".removesuffix("/"), verb)
        for kind, subresource, verbs in inspecting.NEEDS
        for verb in verbs
    }


def test_where_it_runs_itself_the_operator_may_hold_its_lease_and_list_where_gateways_are() -> None:
    rules = one(render({}), "Role", "shoal-operator-own")["rules"]

    assert [(rule["resources"], rule.get("resourceNames"), rule["verbs"]) for rule in rules] == [
        (["leases"], None, ["create"]),
        (["leases"], ["shoal-operator"], ["get", "update"]),
        (["endpointslices"], None, ["list"]),
    ]


def test_without_namespaces_roles_hold_everywhere_and_with_them_only_there() -> None:
    everywhere, somewhere = render({}), render({"namespaces": ["team-a"]})

    assert {"shoal-operator-shoal-system", "shoal-gateway-shoal-system"} <= names(everywhere, "ClusterRole")
    assert {"shoal-operator-own"} == names(everywhere, "Role")
    assert not {name for name in names(somewhere, "ClusterRole") if "models" not in name}
    assert names(somewhere, "Role") == {"shoal-operator", "shoal-gateway", "shoal-operator-own"}


def test_two_installations_share_no_name_that_the_cluster_has_once() -> None:
    def clusterwide(objects: list[Manifest]) -> set[tuple[str, str]]:
        return {
            (item["kind"], item["metadata"]["name"])
            for item in objects
            if "namespace" not in item["metadata"] and item["kind"] != "CustomResourceDefinition"
        }

    first = clusterwide(render({}))
    assert {name for _, name in first if NAMESPACE not in name} == set()


def a_pod(**spec: Any) -> Manifest:
    """The first pod of a replica, as the operator makes it."""
    md = a_model("qwen", metadata={"namespace": "team-a", "uid": "uid-1"}, **spec)
    return pods.pods(md, "qwen-r-0", 0, "r", pods.template(md, Installation("engine:1")))[0]


def who_may_reach(objects: list[Manifest], pod: Manifest, port: int) -> list[dict[str, str]]:
    """The labels of the pods that the policies of the pod's namespace let in at this port."""
    labels, where = pod["metadata"]["labels"], pod["metadata"]["namespace"]
    return [
        source["podSelector"]["matchLabels"]
        for policy in objects
        if policy["kind"] == "NetworkPolicy"
        and policy["metadata"]["namespace"] == where
        and policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
        for rule in policy["spec"]["ingress"]
        if any(each["port"] <= port <= each.get("endPort", each["port"]) for each in rule["ports"])
        for source in rule["from"]
    ]


@pytest.mark.parametrize("port", [RAY_PORT, 1024, 29500, 30001, 52365, 65535], ids=str)
def test_the_pods_of_a_gang_reach_each_other_and_no_other_pod_reaches_them_there(port: int) -> None:
    rendered = render({"namespaces": ["team-a"]})
    gang, alone = a_pod(parallelism={"tensor": 2}, resources={"gpu": 1}), a_pod()

    (source,) = who_may_reach(rendered, gang, port)

    assert source.items() <= gang["metadata"]["labels"].items()
    assert not source.items() <= alone["metadata"]["labels"].items()
    assert who_may_reach(rendered, alone, port) == []


def test_every_replica_is_reached_at_its_port_by_gateways_alone() -> None:
    rendered = render({"namespaces": ["team-a"]})
    gateway = one(rendered, "Deployment", "shoal-gateway")["spec"]["selector"]["matchLabels"]

    for pod in (a_pod(), a_pod(parallelism={"tensor": 2}, resources={"gpu": 1})):
        assert who_may_reach(rendered, pod, 30000) == [gateway]
