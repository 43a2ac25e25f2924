"""A diagnosis names what is wrong and what to type."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shoal_api import crd
from shoal_operator import diagnosis
from shoal_operator.diagnosis import Facts, Grade

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DEFINITION = crd.definition()


def a_deployment(component: str, ready: int = 1) -> dict[str, Any]:
    return {
        "metadata": {"name": f"shoal-{component}", "labels": {"app.kubernetes.io/component": component}},
        "spec": {
            "replicas": 1,
            "template": {"spec": {"containers": [{"name": component, "image": "shoal-control:1"}]}},
        },
        "status": {"readyReplicas": ready},
    }


def a_pod(component: str, **status: Any) -> dict[str, Any]:
    return {"metadata": {"labels": {"app.kubernetes.io/component": component}}, "status": status}


def a_lease(age_seconds: float = 1, holder: str = "operator-a") -> dict[str, Any]:
    return {"spec": {"holderIdentity": holder, "renewTime": (NOW - timedelta(seconds=age_seconds)).isoformat()}}


def a_model(
    status: str = "True", reason: str = "ReplicasReady", message: str = "1 of 1", **spec: Any
) -> dict[str, Any]:
    condition = {"type": "Ready", "status": status, "reason": reason, "message": message}
    return {"metadata": {"namespace": "team", "name": "qwen"}, "spec": spec, "status": {"conditions": [condition]}}


def a_node(**allocatable: str) -> dict[str, Any]:
    return {"status": {"allocatable": {key.replace("_", "/"): value for key, value in allocatable.items()}}}


def facts(**changes: Any) -> Facts:
    whole: dict[str, Any] = {
        "namespace": "shoal-system",
        "now": NOW,
        "server": (1, 34),
        "crd": DEFINITION,
        "our_crd": DEFINITION,
        "deployments": (a_deployment("operator"), a_deployment("gateway")),
        "lease": a_lease(),
        "nodes": (a_node(**{"nvidia.com_gpu": "4"}),),
        "models": (a_model(),),
    }
    return Facts(**(whole | changes))


def without(path: list[str]) -> dict[str, Any]:
    """The CRD of an older version: one field of the spec is not there."""
    older = crd.definition()
    fields = older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    for name in path[:-1]:
        fields = fields[name]["properties"]
    del fields[path[-1]]
    return older


def test_an_installation_in_order_is_all_fine() -> None:
    assert {finding.grade for finding in diagnosis.diagnose(facts())} == {Grade.FINE}


@pytest.mark.parametrize(
    ("changes", "subject", "sentence", "remedy"),
    [
        ({"unreachable": "the API server does not answer: timed out"}, "cluster", "timed out", "--kubeconfig"),
        ({"server": (1, 24)}, "cluster", "1.24 is too old", "1.29"),
        ({"crd": None}, "CRD", "not known here", "kubectl apply --server-side"),
        ({"crd": without(["spec", "queue"])}, "CRD", "another version", "helm upgrade"),
        ({"deployments": ()}, "installation", "no Shoal is installed", "helm install"),
        (
            {
                "deployments": (a_deployment("operator", 0), a_deployment("gateway")),
                "pods": (
                    a_pod(
                        "operator",
                        containerStatuses=[
                            {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such tag"}}}
                        ],
                    ),
                ),
            },
            "operator",
            "ImagePullBackOff: no such tag",
            "kubectl logs",
        ),
        ({"deployments": (a_deployment("operator"),)}, "gateway", "Deployment is missing", "helm upgrade"),
        ({"lease": None}, "Lease", "no operator holds it", "log"),
        ({"lease": a_lease(120)}, "Lease", "120 s ago: that operator is gone or stuck", "log"),
        ({"denied": ("create pods",)}, "RBAC", "may not: create pods", "rbac.create"),
        ({"missing_secrets": ("shoal-master-key",)}, "keys", "shoal-master-key", "helm upgrade"),
        (
            {"nodes": (a_node(cpu="2"),)},
            "GPUs",
            "0 × nvidia.com/gpu on 0 of 1 nodes, asked for by team/qwen",
            "device plugin",
        ),
        (
            {"models": (a_model("False", "CannotStart", "there is no flag --foo"),)},
            "model team/qwen",
            "CannotStart: there is no flag --foo",
            "troubleshooting.md",
        ),
        (
            {"models": ({"metadata": {"namespace": "team", "name": "qwen"}, "spec": {}},)},
            "model team/qwen",
            "no operator has looked at it",
            "operator",
        ),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(
    changes: dict[str, Any], subject: str, sentence: str, remedy: str
) -> None:
    wrong = [finding for finding in diagnosis.diagnose(facts(**changes)) if finding.grade is Grade.WRONG]

    assert [finding.subject for finding in wrong] == [subject], wrong
    assert sentence in wrong[0].sentence
    assert remedy in wrong[0].remedy


@pytest.mark.parametrize(
    ("changes", "subject"),
    [({"denied": None}, "RBAC"), ({"nodes": None}, "GPUs"), ({"server": None}, "cluster")],
)
def test_what_may_not_be_read_is_no_fault(changes: dict[str, Any], subject: str) -> None:
    findings = diagnosis.diagnose(facts(**changes))

    assert [finding.subject for finding in findings if finding.grade is Grade.UNKNOWN] == [subject]
    assert Grade.WRONG not in {finding.grade for finding in findings}


def test_defaults_that_an_api_server_fills_in_make_no_other_version() -> None:
    filled = crd.definition()
    filled["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["x-added-by-server"] = True

    assert diagnosis.diagnose(facts(crd=filled))[1].grade is Grade.FINE


def test_a_model_without_gpus_asks_for_no_capacity() -> None:
    model = a_model(resources={"gpu": 0})

    assert "GPUs" not in [finding.subject for finding in diagnosis.diagnose(facts(models=(model,), nodes=()))]
