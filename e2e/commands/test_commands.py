"""The commands that look at a cluster, against a real one: what they say of a model that is served."""

import shlex
import sys

import pytest

from storykit.installation import NAMESPACE, Installation
from storykit.models import Models, a_model

pytestmark = pytest.mark.cluster


def test_doctor_status_logs_and_rollout_tell_of_a_served_model(shoal: Installation, story: Models) -> None:
    # Python tells of each import then; a simulated engine has nothing to say of its own.
    talkative = {"env": [{"name": "PYTHONPROFILEIMPORTTIME", "value": "1"}]}
    story.apply(a_model("looked-at", replicas=2, engine=talkative))
    story.wait_ready("looked-at", replicas=2)
    pods = sorted(pod["metadata"]["name"] for pod in story.pods("looked-at"))

    found = _said(story, "doctor", "-n", NAMESPACE)
    for subject in ("cluster", "CRD", "operator", "gateway", "Lease", "RBAC", "keys"):
        assert f"ok     {subject}: " in found, found
    assert f"ok     model {story.namespace}/looked-at: ReplicasReady" in found, found

    told = _said(story, "status", "-n", story.namespace)
    assert f"{story.namespace}/looked-at  2 of 2 replicas ready, " in told, told
    for pod in pods:
        assert f"{pod}  Ready, " in told, told

    lines = _said(story, "logs", f"{story.namespace}/looked-at", "--tail", "1").splitlines()
    assert sorted(line.partition("  ")[0] for line in lines) == pods, lines
    assert all("import time:" in line for line in lines), lines

    told = _said(story, "rollout", "status", f"{story.namespace}/looked-at")
    assert "2 replicas wanted" in told, told
    assert "Complete: 2 replicas of revision " in told, told


def _said(story: Models, *words: str) -> str:
    """What the command says, whatever its exit status: a diagnosis tells of other stories' models, too."""
    command = [sys.executable, "-m", "shoal_operator", *words]
    return story.cluster.run(["bash", "-c", f"{shlex.join(command)} 2>&1 || true"]).strip()
