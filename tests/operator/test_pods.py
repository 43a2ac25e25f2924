"""The pods of a replica: what they hold, and that they are made of what the revision keeps."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from builders import a_model
from shoal_api import labels, naming
from shoal_api.modeldeployment import ModelDeployment
from shoal_api.replica_config import ReplicaConfig
from shoal_operator import on_kubernetes, pods, rendering
from shoal_operator.installation import Installation
from shoal_operator.objects import Manifest

INSTALLATION = Installation("registry/engine:1")
GOLDEN = Path(__file__).parent / "rendered"
GANG = {"parallelism": {"tensor": 4, "pipeline": 2}, "resources": {"gpu": 4}}


def a_placed_model(name: str = "qwen", **spec: Any) -> ModelDeployment:
    return a_model(name, metadata={"namespace": "team-a", "uid": "uid-1"}, **spec)


def made_from(md: ModelDeployment, installation: Installation = INSTALLATION) -> list[Manifest]:
    assert on_kubernetes.refusals(md, installation) == []
    revision = rendering.revision(md)
    name = naming.object_name(md.metadata.name, revision, "0")
    return pods.pods(md, name, 0, revision, pods.template(md, installation))


def engine_of(pod: Manifest) -> Manifest:
    found = [container for container in pod["spec"]["containers"] if container["name"] == "engine"]
    assert len(found) == 1
    engine: Manifest = found[0]
    return engine


def config_of(pod: Manifest) -> ReplicaConfig:
    return ReplicaConfig.model_validate_json(pod["metadata"]["annotations"][labels.REPLICA_CONFIG])


@pytest.mark.parametrize(
    ("golden", "md", "installation"),
    [
        ("one-pod.yaml", a_placed_model(), INSTALLATION),
        ("gang.yaml", a_placed_model("big", **GANG), INSTALLATION),
        (
            "everything.yaml",
            a_placed_model(
                model={"source": "hf://org/model@main", "names": ["big"], "credentials": {"secretName": "hub"}},
                engine={
                    "args": ["--max-model-len", "8192"],
                    "image": "registry/other:2",
                    "env": [
                        {"name": "HF_HOME", "value": "/elsewhere"},
                        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                    ],
                },
                resources={"gpu": 0, "cpu": "2", "memory": "8Gi", "sharedMemory": "1Gi"},
                scheduling={
                    "nodeSelector": {"disk": "fast"},
                    "tolerations": [{"key": "spot", "operator": "Exists"}],
                    "affinity": {"nodeAffinity": {}},
                    "topologySpread": [
                        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"},
                    ],
                    "priorityClassName": "high",
                    "runtimeClassName": "nvidia",
                    "schedulerName": "other",
                },
                podTemplate={
                    "metadata": {"labels": {"kueue.x-k8s.io/queue-name": "team"}, "annotations": {"note": "hello"}},
                    "spec": {
                        "imagePullSecrets": [{"name": "mine"}],
                        "volumes": [{"name": "lora", "persistentVolumeClaim": {"claimName": "lora"}}],
                        "containers": [
                            {
                                "name": "engine",
                                "volumeMounts": [{"name": "lora", "mountPath": "/lora"}],
                                "resources": {"limits": {"ephemeral-storage": "10Gi"}},
                            },
                            {"name": "sidecar", "image": "registry/sidecar:1"},
                        ],
                    },
                },
                rollout={"drainSeconds": 60},
            ),
            Installation(
                "registry/engine:1",
                image_pull_policy="Always",
                image_pull_secrets=("theirs",),
                cache_node_path="/var/lib/shoal",
                offline=True,
            ),
        ),
    ],
)
def test_pods_are_rendered_as_written_down(golden: str, md: ModelDeployment, installation: Installation) -> None:
    """After a change that is meant, write down what the failure prints."""
    rendered = made_from(md, installation)
    wanted = list(yaml.safe_load_all((GOLDEN / golden).read_text())) if (GOLDEN / golden).exists() else []

    assert rendered == wanted, yaml.safe_dump_all(rendered, sort_keys=False)


def test_a_kept_template_is_used_as_it_is_whatever_the_manifest_and_the_operator_say_by_now() -> None:
    old = a_placed_model(**GANG, engine={"args": ["--seed", "1"]})
    template = pods.template(old, INSTALLATION)
    kept = copy.deepcopy(template)
    new = a_placed_model(engine={"image": "registry/new:9"})

    made = pods.pods(new, "qwen-old-0", 0, "old", template)

    assert template == kept
    assert [engine_of(pod)["image"] for pod in made] == ["registry/engine:1"] * 2
    assert [config_of(pod).args for pod in made] == [["--seed", "1"]] * 2


def test_fields_that_an_older_image_does_not_know_are_not_told_to_it() -> None:
    """The replica program refuses unknown fields; what is at its default is left out and nothing is added later."""
    md = a_placed_model()
    template = pods.template(md, INSTALLATION)
    told = json.loads(template["metadata"]["annotations"][labels.REPLICA_CONFIG])

    assert not {"nodes", "rank", "head"} & told.keys()
    assert engine_of(pods.pods(md, "qwen-r-0", 0, "r", template)[0])
    assert (
        config_of(pods.pods(md, "qwen-r-0", 0, "r", template)[0]).model_dump_json()
        == ReplicaConfig.model_validate(told).model_dump_json()
    )


def test_a_gang_has_one_port_one_head_and_as_many_pods_as_its_ranks_need() -> None:
    made = made_from(a_placed_model("big", **GANG))
    first, second = made

    assert [pod["metadata"]["labels"][labels.RANK] for pod in made] == ["0", "1"]
    assert {pod["metadata"]["labels"][labels.REPLICA] for pod in made} == {first["metadata"]["name"]}
    assert second["metadata"]["name"] == first["metadata"]["name"] + "-r1"
    assert "ports" in engine_of(first)
    assert not {"ports", "readinessProbe"} & engine_of(second).keys()
    head = f"{first['spec']['hostname']}.{first['spec']['subdomain']}.team-a.svc:6379"
    assert [(config_of(pod).nodes, config_of(pod).rank, config_of(pod).head) for pod in made] == [
        (2, 0, head),
        (2, 1, head),
    ]


@pytest.mark.parametrize("name", ["q", "7b", "a.b", "x" * 48, "x" * 63, "x" * 253])
def test_pod_names_fit_into_host_names_and_labels(name: str) -> None:
    for pod in made_from(a_placed_model(name, **GANG)):
        values = [pod["metadata"]["name"], pod["spec"]["hostname"], *pod["metadata"]["labels"].values()]
        assert all(len(value) <= 63 for value in values)


@pytest.mark.parametrize(("drain", "grace"), [(600, 634), (0, 34)])
def test_the_grace_period_outlives_start_and_drain(drain: int, grace: int) -> None:
    pod = made_from(a_placed_model(rollout={"drainSeconds": drain}))[0]

    assert pod["spec"]["terminationGracePeriodSeconds"] == grace
    assert config_of(pod).drain_seconds == drain


def test_a_pod_without_gpus_sees_none_and_keeps_to_its_cores() -> None:
    engine = engine_of(made_from(a_placed_model(resources={"gpu": 0, "cpu": "2"}))[0])

    assert {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"} in engine["env"]
    assert engine["resources"] == {
        "requests": {"memory": "32Gi", "cpu": "2"},
        "limits": {"memory": "32Gi", "cpu": "2"},
    }


def test_another_gpu_resource_is_asked_for_and_tolerated() -> None:
    pod = made_from(a_placed_model(resources={"gpuResource": "amd.com/gpu"}))[0]

    assert engine_of(pod)["resources"]["limits"] == {"memory": "32Gi", "amd.com/gpu": "1"}
    assert {"key": "amd.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["spec"]["tolerations"]


UNREACHABLE = {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"}


@pytest.mark.parametrize(
    ("chosen", "ours"),
    [
        ([], {"not-ready", "unreachable"}),
        ([{"key": "spot", "operator": "Exists"}], {"not-ready", "unreachable"}),
        ([UNREACHABLE | {"tolerationSeconds": 600}], {"not-ready"}),
        ([UNREACHABLE | {"effect": "NoSchedule"}], {"not-ready", "unreachable"}),
        ([{"operator": "Exists"}], set()),
    ],
)
@pytest.mark.parametrize("where", ["scheduling", "podTemplate"])
def test_a_replica_leaves_an_absent_node_soon_unless_its_owner_says_otherwise(
    chosen: list[Manifest], ours: set[str], where: str
) -> None:
    spec = {"scheduling": {"tolerations": chosen}} if where == "scheduling" else {}
    added = {"podTemplate": {"spec": {"tolerations": chosen}}} if where == "podTemplate" else {}

    tolerations = made_from(a_placed_model(**spec, **added))[0]["spec"]["tolerations"]

    found = {each["key"].rpartition("/")[2] for each in tolerations if each.get("tolerationSeconds") == 30}
    assert found == ours
    assert [each for each in tolerations if each in chosen] == chosen


def test_only_the_pods_of_gangs_say_so() -> None:
    assert [pod["metadata"]["labels"].get(labels.GANG) for pod in made_from(a_placed_model(**GANG))] == ["true"] * 2
    assert labels.GANG not in made_from(a_placed_model())[0]["metadata"]["labels"]


HF = "hf://Qwen/Qwen2.5-7B-Instruct"


@pytest.mark.parametrize(
    "spec",
    [
        {"model": {"source": "hf://Qwen/other"}},
        {"model": {"source": "pvc://weights/x"}},
        {"model": {"source": HF, "names": ["another-canonical"]}},
        {"model": {"source": HF, "names": ["qwen", "an-alias"]}},
        {"model": {"source": HF, "credentials": {"secretName": "token"}}},
        {"engine": {"args": ["--enforce-eager"]}},
        {"engine": {"env": [{"name": "A", "value": "b"}]}},
        {"engine": {"image": "registry/engine:2"}},
        {"parallelism": {"tensor": 2}},
        {"parallelism": {"tensor": 2, "pipeline": 2}, "resources": {"gpu": 2}},
        *({"resources": {"gpu": 1} | change} for change in ({"cpu": "1"}, {"memory": "1Gi"}, {"sharedMemory": "1Gi"})),
        {"resources": {"gpu": 0}},
        {"resources": {"gpuResource": "amd.com/gpu"}},
        {"scheduling": {"nodeSelector": {"gpu": "h200"}}},
        {"scheduling": {"tolerations": [{"key": "spot"}]}},
        {"scheduling": {"affinity": {"podAffinity": {}}}},
        {"scheduling": {"topologySpread": [{"maxSkew": 1}]}},
        *({"scheduling": {name: "x"}} for name in ("priorityClassName", "runtimeClassName", "schedulerName")),
        {"podTemplate": {"metadata": {"labels": {"a": "b"}}}},
        {"rollout": {"drainSeconds": 30}},
        {"rollout": {"strategy": "Surge", "startDeadlineSeconds": 60}},
        {"replicas": 3},
        {"queue": {"maxInFlightPerReplica": 1}},
        {"timeouts": {"idleSeconds": 1}},
        {"routing": {"continuation": "Off"}},
    ],
)
def test_a_revision_changes_exactly_where_the_pods_do(spec: dict[str, Any]) -> None:
    usual, changed = a_placed_model(), a_placed_model(**spec)

    other_pods = _without_revision(changed) != _without_revision(usual)

    assert (rendering.revision(changed) != rendering.revision(usual)) is other_pods


def _without_revision(md: ModelDeployment) -> Manifest:
    template = pods.template(md, INSTALLATION)
    config = json.loads(template["metadata"]["annotations"].pop(labels.REPLICA_CONFIG))
    del config["revision"]
    return {"template": template, "config": config}


def test_another_installation_makes_other_pods_and_the_same_revision() -> None:
    """So an upgrade rolls nothing: the template that is kept was rendered before it."""
    md = a_placed_model()
    upgraded = Installation("registry/engine:2", image_pull_secrets=("s",), cache_claim="c", offline=True)

    before, after = pods.template(md, INSTALLATION), pods.template(md, upgraded)

    assert before["spec"] != after["spec"]
    assert before["metadata"] == after["metadata"]
