"""One table of bad specs, two judges: the committed CRD (schema and CEL) and the types refuse alike, at one path."""

from pathlib import Path
from typing import Any

import cel
import pytest
import yaml

import api_server
from builders import a_manifest
from shoal_api import crd, modeldeployment
from shoal_api.rules import BadManifest

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = yaml.safe_load((ROOT / "crds/modeldeployments.yaml").read_text())["spec"]["versions"][0]["schema"][
    "openAPIV3Schema"
]

HF = "hf://org/model"


def _model(**fields: Any) -> dict[str, Any]:
    return {"model": {"source": HF} | fields}


def _args(*words: str) -> dict[str, Any]:
    return {"engine": {"args": list(words)}}


def _env(**fields: Any) -> dict[str, Any]:
    return {"engine": {"env": [fields]}}


REF = {"name": "s", "key": "k"}


def _schedule(**fields: Any) -> dict[str, Any]:
    usual = {"cron": "0 8 * * *", "durationSeconds": 3600, "minReplicas": 1}
    return {"scaling": {"schedules": [usual | fields]}}


BAD: list[tuple[str, dict[str, Any], str, str]] = [
    # what it is, the spec's parts, the path that is named, a word of the types' sentence
    ("a typo in a part", {"resorces": {}}, "spec.resorces", "no such field"),
    ("a typo deep down", {"engine": {"arg": []}}, "spec.engine.arg", "no such field"),
    ("a typo in a list item", _env(name="A", val="1"), "spec.engine.env[0].val", "no such field"),
    ("no source", {"model": {}}, "spec.model.source", "required"),
    ("an empty source", {"model": {"source": ""}}, "spec.model.source", "at least 1 character"),
    ("a source without scheme", {"model": {"source": "Qwen/Qwen2.5"}}, "spec.model.source", "must begin with one of"),
    ("an unknown scheme", {"model": {"source": "gs://bucket/x"}}, "spec.model.source", "must begin with one of"),
    ("a file source with two slashes", {"model": {"source": "file://models/x"}}, "spec.model.source", "three slashes"),
    ("a file source that is the root", {"model": {"source": "file:///"}}, "spec.model.source", "three slashes"),
    ("a file source that climbs", {"model": {"source": "file:///m/../etc"}}, "spec.model.source", "'..'"),
    ("a hub id with a space", {"model": {"source": "hf://org/a b"}}, "spec.model.source", "Hugging Face"),
    ("a hub id of three parts", {"model": {"source": "hf://a/b/c"}}, "spec.model.source", "Hugging Face"),
    ("a claim in capitals", {"model": {"source": "pvc://Claim/x"}}, "spec.model.source", "CLAIM/PATH"),
    ("a bucket missing", {"model": {"source": "s3://"}}, "spec.model.source", "bucket"),
    ("an image missing", {"model": {"source": "oci:// x"}}, "spec.model.source", "registry"),
    ("a name with a space", _model(names=["a b"]), "spec.model.names[0]", "match pattern"),
    ("a name twice", _model(names=["a", "b", "a"]), "spec.model.names", "twice"),
    ("too many names", _model(names=[f"n{i}" for i in range(17)]), "spec.model.names", "at most 16"),
    ("names not a list", _model(names="a"), "spec.model.names", "valid array"),
    ("credentials without a Secret", _model(credentials={}), "spec.model.credentials.secretName", "required"),
    (
        "a Secret's name in capitals",
        _model(credentials={"secretName": "Tok"}),
        "spec.model.credentials.secretName",
        "match",
    ),
    ("an unknown engine", {"engine": {"kind": "sglang"}}, "spec.engine.kind", "vllm"),
    ("the engine's host", _args("--host", "0.0.0.0"), "spec.engine.args[0]", "remove this flag"),
    ("the engine's port, with =", _args("--port=1"), "spec.engine.args[0]", "remove this flag"),
    (
        "its key, with underscore",
        _args("--max-model-len", "8", "--api_key", "x"),
        "spec.engine.args[2]",
        "remove this flag",
    ),
    ("its served name", _args("--served-model-name=x"), "spec.engine.args[0]", "spec.model.names"),
    ("TLS in the engine", _args("--ssl-keyfile", "k"), "spec.engine.args[0]", "remove this flag"),
    ("uvicorn's flags", _args("--uvicorn-log-level=debug"), "spec.engine.args[0]", "remove this flag"),
    ("parallelism by flag", _args("--tensor-parallel-size", "2"), "spec.engine.args[0]", "spec.parallelism"),
    ("parallelism by short flag", _args("-tp", "2"), "spec.engine.args[0]", "spec.parallelism"),
    ("a file of more flags", _args("--config", "/x.yaml"), "spec.engine.args[0]", "refused"),
    ("middleware", _args("--middleware=os.system"), "spec.engine.args[0]", "refused"),
    ("prompts in logs", _args("--enable-log-requests"), "spec.engine.args[0]", "never go into logs"),
    ("answers in logs", _args("--enable_log_outputs=true"), "spec.engine.args[0]", "never go into logs"),
    ("an empty word", _args(""), "spec.engine.args[0]", "at least 1 character"),
    ("a number among the words", {"engine": {"args": ["--max-model-len", 8]}}, "spec.engine.args[1]", "valid string"),
    ("a variable with a dash", _env(name="A-B", value="1"), "spec.engine.env[0].name", "match pattern"),
    (
        "a variable that logs answers",
        _env(name="VLLM_DEBUG_LOG_API_SERVER_RESPONSE", value="true"),
        "spec.engine.env[0].name",
        "remove this one",
    ),
    ("Ray's variables", _env(name="RAY_AUTH_MODE", value="x"), "spec.engine.env[0].name", "remove this one"),
    (
        "vLLM's developer mode",
        _env(name="VLLM_SERVER_DEV_MODE", value="1"),
        "spec.engine.env[0].name",
        "remove this one",
    ),
    (
        "value and valueFrom",
        _env(name="A", value="1", valueFrom={"secretKeyRef": REF}),
        "spec.engine.env[0].valueFrom",
        "not both",
    ),
    ("an empty valueFrom", _env(name="A", valueFrom={}), "spec.engine.env[0].valueFrom", "exactly one"),
    (
        "two sources of a value",
        _env(name="A", valueFrom={"secretKeyRef": REF, "configMapKeyRef": REF}),
        "spec.engine.env[0].valueFrom",
        "exactly one",
    ),
    ("a variable twice", {"engine": {"env": [{"name": "A"}, {"name": "A"}]}}, "spec.engine.env", "twice"),
    ("no ranks", {"parallelism": {"tensor": 0}}, "spec.parallelism.tensor", "greater than or equal to 1"),
    ("a number in quotes", {"parallelism": {"tensor": "2"}}, "spec.parallelism.tensor", "valid integer"),
    ("idle GPUs", {"resources": {"gpu": 4}}, "spec.resources.gpu", "never be used"),
    (
        "a gang that does not fit",
        {"resources": {"gpu": 2}, "parallelism": {"tensor": 3}},
        "spec.parallelism",
        "multiple",
    ),
    ("a GPU resource without domain", {"resources": {"gpuResource": "gpu"}}, "spec.resources.gpuResource", "match"),
    ("memory in words", {"resources": {"memory": "32 GB"}}, "spec.resources.memory", "match"),
    ("a taint that is text", {"scheduling": {"tolerations": ["x"]}}, "spec.scheduling.tolerations[0]", ""),
    (
        "more at least than at most",
        {"scaling": {"minReplicas": 5, "maxReplicas": 2}},
        "spec.scaling.minReplicas",
        "greater",
    ),
    ("nothing at most", {"scaling": {"maxReplicas": 0}}, "spec.scaling.maxReplicas", "greater than or equal to 1"),
    ("no target", {"scaling": {"targetLoad": 0}}, "spec.scaling.targetLoad", "greater than or equal to 1"),
    *(
        (f"no cron expression: {cron}", _schedule(cron=cron), "spec.scaling.schedules[0].cron", "five fields")
        for cron in ("0 8 * *", "60 8 * * *", "0 24 * * *", "0 8 0 * *", "0 8 * 13 *", "0 8 * * 8", "0 8 * * Mon")
    ),
    *(
        (f"no cron expression: {cron}", _schedule(cron=cron), "spec.scaling.schedules[0].cron", "five fields")
        for cron in ("@daily", "0 8 * * * *", "*/0 * * * *", "0 8/2 * * *", "0 8, * * *", "0 8 * * MON-", " 0 8 * * *")
    ),
    ("no expression at all", _schedule(cron=""), "spec.scaling.schedules[0].cron", "at least 1 character"),
    (
        "a zone that is none",
        _schedule(timeZone="Mars/Olympus"),
        "spec.scaling.schedules[0].timeZone",
        "such as Europe/Berlin",
    ),
    ("a zone that climbs", _schedule(timeZone="../UTC"), "spec.scaling.schedules[0].timeZone", "Europe/Berlin"),
    ("an area without a place", _schedule(timeZone="Europe"), "spec.scaling.schedules[0].timeZone", "Europe/Berlin"),
    ("a blink", _schedule(durationSeconds=59), "spec.scaling.schedules[0].durationSeconds", "equal to 60"),
    ("a schedule for none", _schedule(minReplicas=0), "spec.scaling.schedules[0].minReplicas", "equal to 1"),
    ("more by schedule than at most", _schedule(minReplicas=5), "spec.scaling.schedules", "greater than maxReplicas"),
    ("negative replicas", {"replicas": -1}, "spec.replicas", "greater than or equal to 0"),
    ("half a replica", {"replicas": 1.5}, "spec.replicas", "integer"),
    ("nothing in flight", {"queue": {"maxInFlightPerReplica": 0}}, "spec.queue.maxInFlightPerReplica", "greater"),
    ("waiting backwards", {"queue": {"maxWaitSeconds": -1}}, "spec.queue.maxWaitSeconds", "greater"),
    ("no time to connect", {"timeouts": {"connectSeconds": 0}}, "spec.timeouts.connectSeconds", "greater than 0"),
    ("an unknown policy", {"routing": {"policy": "Random"}}, "spec.routing.policy", "LeastLoad"),
    ("an unknown continuation", {"routing": {"continuation": "Maybe"}}, "spec.routing.continuation", "Exact"),
    ("an unknown strategy", {"rollout": {"strategy": "Recreate"}}, "spec.rollout.strategy", "DeleteFirst"),
    ("no canary", {"rollout": {"canary": {"replicas": 0}}}, "spec.rollout.canary.replicas", "greater than or equal"),
    ("a canary in percent", {"rollout": {"canary": {"percent": 10}}}, "spec.rollout.canary.percent", "no such field"),
    ("a canary that is a number", {"rollout": {"canary": 1}}, "spec.rollout.canary", ""),
    ("a deadline too short", {"rollout": {"startDeadlineSeconds": 1}}, "spec.rollout.startDeadlineSeconds", "greater"),
]


@pytest.mark.parametrize(("spec", "path", "word"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_bad_spec_is_refused_by_both_with_the_fields_path(spec: dict[str, Any], path: str, word: str) -> None:
    manifest = a_manifest(**({"model": {"source": HF}} | spec))

    with pytest.raises(BadManifest) as refused:
        modeldeployment.read(manifest)
    by_types = {fault.path: fault.sentence for fault in refused.value.faults}
    by_server = dict(api_server.faults(manifest, SCHEMA))

    assert path in by_types, by_types
    assert word in by_types[path]
    assert path in by_server, by_server
    assert by_server[path]


GOOD: list[dict[str, Any]] = [
    {},
    {"model": {"source": "file:///models/llama", "names": ["llama3.3:70b-instruct-q4_K_M", "org/name@2026"]}},
    {"model": {"source": "pvc://weights/llama/8b", "credentials": {"secretName": "hf-token"}}},
    {"model": {"source": "hf://org/model@main"}},
    {"model": {"source": "s3://bucket/a/b"}},
    {"engine": {"args": ["--max-model-len", "8192", "--enforce-eager", "--hf-overrides", '{"a": 1}', "-O3"]}},
    {"engine": {"env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"secretKeyRef": REF}}]}},
    {"resources": {"gpu": 0, "cpu": 2, "memory": "4Gi"}},
    {"resources": {"gpu": 2}, "parallelism": {"tensor": 2, "pipeline": 2}},
    {"scaling": {"minReplicas": 0, "maxReplicas": 4, "targetLoad": 16}, "replicas": 2},
    _schedule(cron="*/15 8-18/2,22-2 1,15 JAN-MAR,12 FRI-MON,3", timeZone="America/Argentina/Buenos_Aires"),
    _schedule(cron="0  7 * * 7"),
    {"podTemplate": {"metadata": {"labels": {"team": "a"}}, "spec": {"volumes": [{"name": "x", "emptyDir": {}}]}}},
    {"scheduling": {"tolerations": [{"key": "gpu", "operator": "Exists"}], "nodeSelector": {"a": "b"}}},
    {"timeouts": {"connectSeconds": 0.5}, "routing": {"policy": "LeastLoad", "continuation": "Exact"}},
]


@pytest.mark.parametrize("spec", GOOD)
def test_a_good_spec_passes_both(spec: dict[str, Any]) -> None:
    manifest = a_manifest(**spec)

    modeldeployment.read(manifest)

    assert api_server.faults(manifest, SCHEMA) == []


def test_both_apply_the_same_defaults() -> None:
    manifest = a_manifest()
    by_server = api_server.with_defaults(manifest, SCHEMA)["spec"]

    by_types = modeldeployment.read(manifest).spec.model_dump(by_alias=True, mode="json", exclude_none=True)

    assert by_types == by_server


def test_every_default_keeps_the_rules_on_it_as_it_stands() -> None:
    """An API server judges a default before it fills in those inside it, and refuses the whole CRD for one fault."""
    parts = [SCHEMA]
    for part in parts:
        if "default" in part:
            for rule in part.get("x-kubernetes-validations", []):
                assert cel.evaluate(rule["rule"], {"self": part["default"]}), rule["message"]
        parts += [*part.get("properties", {}).values(), *([part["items"]] if "items" in part else [])]
    assert sum("x-kubernetes-validations" in part and "default" in part for part in parts) > 0


def test_the_committed_crd_is_the_rendered_one() -> None:
    assert (ROOT / "crds/modeldeployments.yaml").read_text() == crd.render(), "run `make crds`"


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "America/Argentina"])
def test_a_zone_that_only_looks_like_one_is_refused_by_the_types(zone: str) -> None:
    with pytest.raises(BadManifest, match=rf"schedules\[0\].timeZone: the time zone database knows no {zone}"):
        modeldeployment.read(a_manifest(**_schedule(timeZone=zone)))


@pytest.mark.parametrize("manifest", [None, [], "text", {"kind": "Pod", "apiVersion": "v1"}, {}])
def test_what_is_no_modeldeployment_is_refused(manifest: object) -> None:
    with pytest.raises(BadManifest, match=r"ModelDeployment|mapping"):
        modeldeployment.read(manifest)


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(BadManifest) as refused:
        modeldeployment.read(a_manifest(resorces={}, replicas=-1, parallelism={"tensor": 0}))

    assert {fault.path for fault in refused.value.faults} == {
        "spec.resorces",
        "spec.replicas",
        "spec.parallelism.tensor",
    }
