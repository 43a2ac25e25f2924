"""What each source means for a pod, and why some are refused."""

from typing import Any

import pytest

from builders import a_model
from shoal_operator import on_kubernetes, sources
from shoal_operator.installation import Installation

PLAIN = Installation("registry/engine:1")
CLAIM = {"name": "shoal-model", "persistentVolumeClaim": {"claimName": "weights", "readOnly": True}}


def a_node_folder(path: str) -> dict[str, Any]:
    return {"name": "shoal-model", "hostPath": {"path": path, "type": "Directory"}}


@pytest.mark.parametrize(
    ("source", "installation", "loads", "volume"),
    [
        ("hf://org/model@main", PLAIN, "org/model@main", None),
        ("pvc://weights", PLAIN, "/models", CLAIM),
        ("pvc://weights/llama/8b/", PLAIN, "/models/llama/8b", CLAIM),
        ("file:///srv/a/llama", Installation("e", file_roots=("/srv/a",)), "/models/llama", a_node_folder("/srv/a")),
        (
            "file:///srv/a/b/c",
            Installation("e", file_roots=("/srv", "/srv/a/")),
            "/models/b/c",
            a_node_folder("/srv/a"),
        ),
        ("file:///srv//a/./b", Installation("e", file_roots=("/srv/a/b",)), "/models", a_node_folder("/srv/a/b")),
        (
            "oci://registry/llama:1",
            Installation("e", image_volumes=True),
            "/models",
            {"name": "shoal-model", "image": {"reference": "registry/llama:1", "pullPolicy": "IfNotPresent"}},
        ),
        ("s3://bucket/llama", PLAIN, "s3://bucket/llama", None),
    ],
)
def test_a_source_becomes_what_the_engine_loads_and_what_is_mounted(
    source: str, installation: Installation, loads: str, volume: dict[str, Any] | None
) -> None:
    md = a_model(model={"source": source})
    found = sources.origin(md, installation)

    assert sources.faults(md, installation) == []
    assert found.loads == loads
    assert found.volumes == ((volume,) if volume else ())
    assert [mount["readOnly"] for mount in found.mounts] == [True] * len(found.volumes)


@pytest.mark.parametrize(
    ("spec", "installation", "path", "sentence"),
    [
        ({"model": {"source": "file:///etc"}}, PLAIN, "spec.model.source", "allows no folders of the nodes"),
        (
            {"model": {"source": "file:///srv/models2/x"}},
            Installation("e", file_roots=("/srv/models",)),
            "spec.model.source",
            "only folders below /srv/models are allowed",
        ),
        ({"model": {"source": "pvc://weights/a/../b"}}, PLAIN, "spec.model.source", "must not contain '..'"),
        ({"model": {"source": "oci://registry/x"}}, PLAIN, "spec.model.source", "ImageVolume"),
        (
            {"model": {"source": "hf://org/model"}},
            Installation("e", offline=True),
            "spec.model.source",
            "offline and keeps no cache",
        ),
        (
            {
                "model": {"source": "s3://b/p"},
                "engine": {"env": [{"name": "AWS_ENDPOINT_URL", "value": "http://169.254.169.254/"}]},
            },
            PLAIN,
            "spec.engine.env[0]",
            "lies inside the cluster or its network",
        ),
        (
            {
                "model": {"source": "s3://b/p"},
                "engine": {
                    "env": [
                        {"name": "A", "value": "b"},
                        {"name": "AWS_ENDPOINT_URL", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                    ]
                },
            },
            PLAIN,
            "spec.engine.env[1]",
            "must be a plain value",
        ),
        ({"engine": {"args": ["--trust-remote-code"]}}, PLAIN, "spec.engine.args[0]", "where the installation allows"),
        (
            {"engine": {"args": ["--hf-overrides", '{"trust_remote_code": true}']}},
            PLAIN,
            "spec.engine.args[1]",
            "where the installation allows",
        ),
        ({"engine": {"env": [{"name": "POD_UID", "value": "x"}]}}, PLAIN, "spec.engine.env[0]", "Shoal sets POD_UID"),
        (
            {"parallelism": {"pipeline": 2}, "resources": {"gpu": 0}},
            PLAIN,
            "spec.parallelism.pipeline",
            "one stage only",
        ),
        ({"podTemplate": {"spec": {"hostPID": True}}}, PLAIN, "spec.podTemplate.spec.hostPID", "their own processes"),
    ],
)
def test_what_this_cluster_cannot_or_may_not_do_is_refused_with_its_reason(
    spec: dict[str, Any], installation: Installation, path: str, sentence: str
) -> None:
    (fault,) = on_kubernetes.refusals(a_model(**spec), installation)

    assert fault.path == path
    assert sentence in fault.sentence


@pytest.mark.parametrize(
    ("url", "inside"),
    [
        ("https://s3.eu-central-1.amazonaws.com", False),
        ("https://storage.googleapis.com:443/x", False),
        ("https://8.8.8.8", False),
        ("http://169.254.169.254", True),
        ("http://[fe80::1]", True),
        ("http://[::ffff:169.254.169.254]", True),
        ("http://10.0.0.4:9000", True),
        ("http://127.0.0.1", True),
        ("http://2130706433", True),
        ("http://127.0.1", True),
        ("http://0xa.0.0.0x1", True),
        ("http://localhost:9000", True),
        ("http://minio:9000", True),
        ("http://minio.storage", True),
        ("http://minio.storage.svc:9000", True),
        ("http://minio.storage.svc.cluster.local.", True),
        ("http://metadata.google.internal", True),
        ("http://user@10.0.0.4@s3.eu-central-1.amazonaws.com", False),
        ("http://s3.eu-central-1.amazonaws.com@10.0.0.4", True),
        ("minio.storage.svc", True),
        ("http://[", True),
        ("", True),
    ],
)
def test_an_endpoint_inside_the_cluster_is_known_by_its_name(url: str, inside: bool) -> None:
    assert sources.is_inside(url) is inside


def test_an_endpoint_that_the_installation_names_is_let_through() -> None:
    md = a_model(
        model={"source": "s3://b/p"},
        engine={"env": [{"name": "AWS_ENDPOINT_URL", "value": "http://minio.storage.svc:9000"}]},
    )

    assert sources.faults(md, Installation("e", s3_endpoints=("minio.storage.svc",))) == []
    assert sources.faults(md, Installation("e", s3_endpoints=("other.storage.svc",)))


def test_the_token_of_a_hub_is_needed_and_the_keys_of_a_bucket_are_not() -> None:
    """Session tokens and regions exist only for some; a Secret without the hub's token is a mistake to be told."""
    hub = a_model(model={"source": "hf://org/model", "credentials": {"secretName": "hub"}})
    bucket = a_model(model={"source": "s3://b/p", "credentials": {"secretName": "aws"}})

    (token,) = sources.origin(hub, PLAIN).env
    keys = sources.origin(bucket, PLAIN).env

    assert token == {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}}
    assert {"name": "AWS_EC2_METADATA_DISABLED", "value": "true"} in keys
    assert all(key["valueFrom"]["secretKeyRef"]["optional"] for key in keys if "valueFrom" in key)


@pytest.mark.parametrize(
    ("args", "added"),
    [
        ([], ("--load-format", "runai_streamer")),
        (["--load-format", "runai_streamer_sharded"], ()),
        (["--load_format=dummy"], ()),
    ],
)
def test_a_bucket_is_read_by_the_engines_own_loader(args: list[str], added: tuple[str, ...]) -> None:
    md = a_model(model={"source": "s3://b/p"}, engine={"args": args})

    assert sources.origin(md, PLAIN).args == added


@pytest.mark.parametrize(
    ("installation", "volume", "sub_path"),
    [
        (PLAIN, {"emptyDir": {}}, None),
        (Installation("e", cache_claim="cache"), {"persistentVolumeClaim": {"claimName": "cache"}}, None),
        (
            Installation("e", cache_node_path="/var/lib/shoal"),
            {"hostPath": {"path": "/var/lib/shoal", "type": "Directory"}},
            "team-a",
        ),
    ],
)
def test_a_cache_on_a_node_is_shared_within_a_namespace_only(
    installation: Installation, volume: dict[str, Any], sub_path: str | None
) -> None:
    found, mount = sources.cache(a_model(metadata={"namespace": "team-a"}), installation)

    assert found == {"name": "shoal-cache"} | volume
    assert mount.get("subPath") == sub_path


def test_remote_code_runs_where_the_installation_allows_it() -> None:
    md = a_model(engine={"args": ["--trust-remote-code"]})

    assert on_kubernetes.refusals(md, Installation("e", allow_remote_code=True)) == []
