"""Another project's kind has the same name: Shoal neither reads nor touches its objects, and its own are served."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localkube import waiting
from localkube.access import Access
from storykit.installation import Installation
from storykit.ledger import asking
from storykit.models import Models, a_model

pytestmark = pytest.mark.cluster

GROUP = "other.example.com"
KIND = f"modeldeployments.{GROUP}"


@pytest.fixture
def other_kind(cluster: Access) -> Iterator[None]:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    definition: dict[str, Any] = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": KIND},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"kind": "ModelDeployment", "plural": "modeldeployments", "singular": "modeldeployment"},
            "versions": [{"name": "v1alpha1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }
    cluster.apply(definition)
    cluster.kubectl("wait", "--for=condition=Established", f"crd/{KIND}", "--timeout=60s")
    # An established kind is served and discovered a moment later.
    waiting.until(lambda: cluster.get(KIND, "--all-namespaces")["items"] == [], what=f"served {KIND}", seconds=60)
    yield
    cluster.kubectl("delete", "crd", KIND, "--timeout=60s")


@pytest.mark.usefixtures("other_kind")
def test_a_kind_of_the_same_name_in_another_group_is_left_alone(
    shoal: Installation, story: Models, tmp_path: Path
) -> None:
    foreign = {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "og"},
        "spec": {"model": {"source": "hf://other/thing", "names": ["foreign"]}, "replicas": 3},
    }
    story.apply(foreign)
    story.apply(a_model("og"))
    story.wait_ready("og")

    with asking(shoal.cluster, tmp_path, shoal.url, "og", "--rate", "5", "--seconds", "2", key=shoal.key) as ledger:
        ledger.client.wait(180)
        ledger.all_ok()
    with asking(shoal.cluster, tmp_path, shoal.url, "foreign", "--rate", "1", "--seconds", "1", key=shoal.key) as none:
        none.client.wait(180)
        assert {entry.status for entry in none.finish()} == {404}, none.told()

    found = story.cluster.get(KIND, "og", "-n", story.namespace, "--show-managed-fields")
    assert "status" not in found
    assert not [entry for entry in found["metadata"]["managedFields"] if entry["manager"] == "shoal"]
    assert len(story.pods("og")) == 1
    story.cluster.kubectl("delete", KIND, "og", "-n", story.namespace, "--timeout=30s")
    assert story.pods("og")[0]["status"]["phase"] == "Running"
    story.delete("og")
