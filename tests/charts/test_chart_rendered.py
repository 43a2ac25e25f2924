"""What Helm makes of several sets of values holds together: names meet, selectors select, every pod is restricted."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from chart import CHART, NAMESPACE, Manifest, lint, names, one, render, template
from chart_values import GITOPS, SETS
from shoal_api import keys

PROGRAMS = ("Deployment", "DaemonSet")


def pod_specs(objects: list[Manifest]) -> Iterator[Manifest]:
    for item in objects:
        if item["kind"] == "Pod":
            yield item["spec"]
        elif item["kind"] in PROGRAMS:
            yield item["spec"]["template"]["spec"]


def selects(selector: dict[str, str], item: Manifest) -> bool:
    labels = item["spec"]["template"]["metadata"]["labels"]
    return selector.items() <= labels.items()


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
