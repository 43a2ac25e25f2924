"""What Helm makes of several sets of values holds together: names meet, selectors select, every pod is restricted."""

import argparse
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from builders import a_model
from chart import CHART, NAMESPACE, Manifest, arguments, lint, one, render, template
from localkube import waiting
from shoal_api import keys
from shoal_operator import inspecting, operator_settings, pods
from shoal_operator.installation import Installation
from shoal_operator.objects import RAY_PORT
from shoal_serving.gateway import settings as gateway_settings

EVERYTHING: dict[str, Any] = {
    "namespaces": ["team-a", "team-b"],
    "images": {
        "registry": "registry.example.com/shoal/",
        "engine": {"digest": "sha256:" + "0" * 64},
        "pullSecrets": ["registry"],
        "prePull": {"enabled": True, "images": ["registry.example.com/other:1"], "nodeSelector": {"pool": "gpu"}},
    },
    "models": {
        "fileRoots": ["/models", "/data"],
        "cache": {"nodePath": "/var/cache/shoal"},
        "offline": True,
        "allowRemoteCode": True,
        "imageVolumes": True,
        "s3Endpoints": ["minio.storage.svc:9000"],
        "pullSecrets": ["a", "b"],
    },
    "operator": {"replicas": 2, "podLabels": {"x": "y"}, "nodeSelector": {"pool": "cpu"}, "priorityClassName": "high"},
    "gateway": {
        "autoscaling": {"enabled": True},
        "service": {
            "type": "LoadBalancer",
            "port": 8080,
            "nodePort": 31111,
            "loadBalancerSourceRanges": ["10.0.0.0/8"],
        },
        "ingress": {"enabled": True, "className": "nginx", "hosts": ["llm.example.com"], "tlsSecret": "llm-tls"},
        "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}], "hostnames": ["llm.example.com"]},
        "tolerations": [{"operator": "Exists"}],
        "env": [{"name": "TZ", "value": "UTC"}],
        "maxHeldBytes": 8589934592,
    },
    "networkPolicy": {"metricsFrom": [{"podSelector": {}}], "clientsFrom": [{"podSelector": {}}]},
    "monitoring": {
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboard": {"enabled": True},
    },
    "test": {"model": "llama"},
}
GITOPS: dict[str, Any] = {
    "masterKey": {"existingSecret": "our-master"},
    "apiKeys": {"existingSecret": "our-keys"},
    "test": {"apiKeySecret": "our-key"},
}
BARE: dict[str, Any] = {
    "crds": {"install": False},
    "rbac": {"create": False},
    "apiKeys": {"enabled": False},
    "networkPolicy": {"enabled": False},
    "models": {"surgePriority": {"create": False}},
    "operator": {"serviceAccount": {"create": False, "name": "mine"}},
    "gateway": {"serviceAccount": {"create": False, "name": "mine"}, "podDisruptionBudget": {"enabled": False}},
}
PROGRAMS = ("Deployment", "DaemonSet")
SETS = pytest.mark.parametrize(
    "values", [{}, EVERYTHING, GITOPS, BARE], ids=["as it is", "everything", "gitops", "bare"]
)


def pod_specs(objects: list[Manifest]) -> Iterator[Manifest]:
    for item in objects:
        if item["kind"] == "Pod":
            yield item["spec"]
        elif item["kind"] in PROGRAMS:
            yield item["spec"]["template"]["spec"]


def selects(selector: dict[str, str], item: Manifest) -> bool:
    labels = item["spec"]["template"]["metadata"]["labels"]
    return selector.items() <= labels.items()


def names(objects: list[Manifest], kind: str) -> set[str]:
    return {item["metadata"]["name"] for item in objects if item["kind"] == kind}


@SETS
def test_helm_finds_no_fault(values: dict[str, Any]) -> None:
    done = lint(values)

    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout


@SETS
def test_every_object_stands_once_and_where_it_belongs(values: dict[str, Any]) -> None:
    objects = render(values)
    places = [(item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]) for item in objects]
    clusterwide = {"CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding", "PriorityClass"}

    assert len(places) == len(set(places))
    for kind, namespace, name in places:
        allowed = {None} if kind in clusterwide else {NAMESPACE, *values.get("namespaces", [])}
        assert namespace in allowed, (kind, name)


@SETS
def test_every_pod_passes_the_restricted_standard_with_a_read_only_root(values: dict[str, Any]) -> None:
    for spec in pod_specs(render(values)):
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["requests"]
        assert {next(key for key in volume if key != "name") for volume in spec.get("volumes", [])} <= {
            "secret",
            "emptyDir",
        }


@SETS
def test_every_selector_selects_exactly_its_program(values: dict[str, Any]) -> None:
    objects = render(values)
    programs = {item["metadata"]["name"]: item for item in objects if item["kind"] in PROGRAMS}
    assert set(programs) - {"shoal-engine-image"} == {"shoal-operator", "shoal-gateway"}

    for item in objects:
        spec = item.get("spec", {})
        selector = spec.get("selector") or spec.get("podSelector") or {}
        selector = selector.get("matchLabels", selector)
        if not selector or item["kind"] == "CustomResourceDefinition" or "managed-by" in str(selector):
            continue
        program = item["metadata"]["labels"]["app.kubernetes.io/component"]
        found = [name for name, deployment in programs.items() if selects(selector, deployment)]
        assert found == [f"shoal-{program}"], (item["kind"], item["metadata"]["name"])


@SETS
def test_every_secret_and_account_that_is_named_is_made_or_was_given(values: dict[str, Any]) -> None:
    objects = render(values)
    given = {"our-master", "our-keys", "our-key"}
    named = {
        volume["secret"]["secretName"]
        for spec in pod_specs(objects)
        for volume in spec.get("volumes", [])
        if "secret" in volume
    }
    accounts = {spec["serviceAccountName"] for spec in pod_specs(objects) if "serviceAccountName" in spec}
    bound = {
        subject["name"]
        for item in objects
        if item["kind"] in ("RoleBinding", "ClusterRoleBinding")
        for subject in item["subjects"]
    }

    assert named <= names(objects, "Secret") | given
    assert accounts <= names(objects, "ServiceAccount") | {"mine"}
    assert bound in (accounts, set())


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


@SETS
def test_the_gateway_takes_the_arguments_that_the_chart_gives(values: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "master").mkdir()
    (tmp_path / "master/master-key").write_text("ab" * 32)
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/keys.yaml").write_text("[]")
    words = [word.replace("/etc/shoal", str(tmp_path)) for word in arguments(render(values), "shoal-gateway")]

    settings = gateway_settings.read(words, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"})

    assert settings.max_held_bytes == values.get("gateway", {}).get("maxHeldBytes", 536870912)
    assert (settings.keys_file is None) == (values is BARE)


@SETS
def test_the_operator_takes_the_arguments_that_the_chart_gives(values: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "master").mkdir()
    (tmp_path / "master/master-key").write_text("ab" * 32)
    words = [word.replace("/etc/shoal", str(tmp_path)) for word in arguments(render(values), "shoal-operator")]
    parser = argparse.ArgumentParser()
    operator_settings.add_flags(parser)

    settings = operator_settings.read(parser.parse_args(words), {"POD_NAME": "a-pod"}, 1)

    assert settings.gateway_service == (NAMESPACE, "shoal-gateway-internal")
    assert settings.namespaces == tuple(values.get("namespaces", ()))
    assert settings.installation.file_roots == tuple(values.get("models", {}).get("fileRoots", ()))
    assert settings.installation.offline == (values is EVERYTHING)
    assert bool(settings.installation.surge_priority_class) == (values is not BARE)


def test_the_engine_image_is_pulled_beforehand_only_where_that_is_asked_for() -> None:
    assert names(render({}), "DaemonSet") == set()

    spec = one(render(EVERYTHING), "DaemonSet", "shoal-engine-image")["spec"]["template"]["spec"]
    engine = f"registry.example.com/shoal/shoal-engine@sha256:{'0' * 64}"
    assert [container["image"] for container in spec["containers"]] == [engine, "registry.example.com/other:1"]
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["nodeSelector"] == {"pool": "gpu"}
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


def test_what_holds_an_image_ends_when_it_is_told_to() -> None:
    (container,) = one(render({"images": {"prePull": {"enabled": True}}}), "DaemonSet", "shoal-engine-image")["spec"][
        "template"
    ]["spec"]["containers"]
    _, *words = container["command"]
    holding = subprocess.Popen([sys.executable, *words])
    try:
        waiting.until(lambda: catches(holding.pid, signal.SIGTERM), what="it listens", seconds=30)
        holding.terminate()
        assert holding.wait(10) == 0
    finally:
        holding.kill()
        holding.wait()


def catches(pid: int, number: signal.Signals) -> bool:
    caught = re.search(r"^SigCgt:\s+(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (number - 1) & 1)


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


@pytest.mark.parametrize(
    ("chosen", "ours"),
    [
        ([], ["not-ready", "unreachable"]),
        ([{"key": "spot", "operator": "Exists"}], ["not-ready", "unreachable"]),
        ([{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "tolerationSeconds": 300}], ["not-ready"]),
        ([{"operator": "Exists"}], []),
    ],
)
@pytest.mark.parametrize("program", ["operator", "gateway"])
def test_a_program_leaves_an_absent_node_soon_unless_the_values_say_otherwise(
    program: str, chosen: list[Manifest], ours: list[str]
) -> None:
    deployment = one(render({program: {"tolerations": chosen}}), "Deployment", f"shoal-{program}")
    tolerations = deployment["spec"]["template"]["spec"]["tolerations"]

    assert [each for each in tolerations if each in chosen] == chosen
    added = [each for each in tolerations if each not in chosen]
    assert [each["key"] for each in added] == [f"node.kubernetes.io/{name}" for name in ours]
    assert {each["tolerationSeconds"] for each in added} <= {30}


def test_a_pod_has_the_time_that_its_drain_takes() -> None:
    for seconds, grace in ((0, 37), (90, 90)):
        values = {"gateway": {"drainSeconds": 5, "settleSeconds": 2, "terminationGracePeriodSeconds": seconds}}
        deployment = one(render(values), "Deployment", "shoal-gateway")
        assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == grace


def test_the_crd_outlives_the_release_unless_that_is_switched_off() -> None:
    kept, dropped = render({}), render({"crds": {"keep": False}})
    annotations = [
        one(objects, "CustomResourceDefinition", "modeldeployments.shoal.dev")["metadata"].get("annotations", {})
        for objects in (kept, dropped)
    ]

    assert annotations == [{"helm.sh/resource-policy": "keep"}, {}]


def test_the_crd_is_the_generated_one() -> None:
    rendered = one(render({"crds": {"keep": False}}), "CustomResourceDefinition", "modeldeployments.shoal.dev")

    assert rendered == yaml.safe_load((CHART / "files/modeldeployments.yaml").read_text())


def test_the_first_key_is_the_one_that_the_gateway_accepts() -> None:
    objects = render({})
    key = one(objects, "Secret", "shoal-first-key")["stringData"]["key"]
    (entry,) = keys.read(yaml.safe_load(one(objects, "Secret", "shoal-api-keys")["stringData"]["keys.yaml"]))

    assert key.startswith("sk-shoal-")
    assert entry.sha256 == keys.digest(key.encode()).hex()
    assert entry.models == [keys.EVERY_MODEL]


def test_keys_are_hooks_so_that_no_rollback_takes_them_back() -> None:
    for item in render({}):
        if item["kind"] == "Secret":
            assert item["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
            assert item["metadata"]["annotations"]["helm.sh/hook-delete-policy"] == "hook-failed"


def test_given_secrets_are_used_and_none_is_made() -> None:
    objects = render(GITOPS)

    assert names(objects, "Secret") == set()
    volumes = one(objects, "Deployment", "shoal-gateway")["spec"]["template"]["spec"]["volumes"]
    assert [volume["secret"]["secretName"] for volume in volumes if "secret" in volume] == ["our-master", "our-keys"]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"gateway": {"ingress": {"enabled": True}}}, "gateway.ingress.hosts: name at least one host"),
        ({"gateway": {"httpRoute": {"enabled": True}}}, "gateway.httpRoute.parentRefs: name the Gateway"),
        ({"operator": {"serviceAccount": {"create": False}}}, "operator.serviceAccount.name: name the service account"),
        ({"gateway": {"replicas": "two"}}, "/gateway/replicas"),
        (
            {"images": {"pullPolicy": "Never", "prePull": {"enabled": True}}},
            "images.prePull.enabled: images.pullPolicy is Never",
        ),
        ({"colour": "blue"}, "'colour' not allowed"),
    ],
)
def test_helm_says_what_is_wrong(values: dict[str, Any], sentence: str) -> None:
    done = template(values)

    assert done.returncode != 0
    assert sentence in done.stderr


@pytest.mark.parametrize(
    ("release", "values", "name"),
    [
        ("shoal", {}, "shoal"),
        ("my-shoal", {}, "my-shoal"),
        ("llm", {}, "llm-shoal"),
        ("llm", {"nameOverride": "models"}, "llm-models"),
        ("llm", {"fullnameOverride": "fleet"}, "fleet"),
        ("a" * 53, {}, "a" * 40),
    ],
)
def test_names_follow_the_release(release: str, values: dict[str, Any], name: str) -> None:
    assert names(render(values, release), "Deployment") == {f"{name}-operator", f"{name}-gateway"}
