"""What can be known about a pod before an old one goes for it: what it names, and what a quota leaves."""

from decimal import Decimal
from typing import Any

import pytest

from shoal_operator import preflight
from shoal_operator.kinds import CLAIM, CONFIG_MAP, SECRET, Manifest
from shoal_operator.preflight import Need


def a_pod(*, gpu: int = 1, memory: str = "8Gi", image: str = "shoal/engine:1", **parts: Any) -> Manifest:
    """A pod whose engine has these parts; `volumes` go into its spec."""
    volumes = parts.pop("volumes", [])
    limits = {"nvidia.com/gpu": str(gpu), "memory": memory}
    engine = {"name": "engine", "image": image, "resources": {"limits": limits, "requests": limits}, **parts}
    return {"metadata": {"name": "p", "namespace": "team"}, "spec": {"containers": [engine], "volumes": volumes}}


@pytest.mark.parametrize(
    ("parts", "needs"),
    [
        ({}, []),
        (
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
            [Need(SECRET, "s", frozenset({"k"}))],
        ),
        ({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}}]}, []),
        (
            {"env": [{"name": n, "valueFrom": {"configMapKeyRef": {"name": "c", "key": n}}} for n in "ab"]},
            [Need(CONFIG_MAP, "c", frozenset({"a", "b"}))],
        ),
        (
            {"envFrom": [{"secretRef": {"name": "s"}}, {"configMapRef": {"name": "c"}}]},
            [Need(SECRET, "s"), Need(CONFIG_MAP, "c")],
        ),
        ({"volumes": [{"name": "v", "secret": {"secretName": "own"}}]}, []),
        ({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "weights"}}]}, [Need(CLAIM, "weights")]),
        (
            {
                "volumes": [
                    {"name": "v", "projected": {"sources": [{"secret": {"name": "s", "items": [{"key": "k"}]}}]}}
                ]
            },
            [Need(SECRET, "s", frozenset({"k"}))],
        ),
    ],
)
def test_what_a_pod_names_must_be_there(parts: dict[str, Any], needs: list[Need]) -> None:
    assert preflight.needs(a_pod(**parts), "own") == needs


@pytest.mark.parametrize(
    ("need", "found", "words"),
    [
        (Need(SECRET, "s", frozenset({"k"})), {"data": {"k": "eA=="}}, ""),
        (Need(SECRET, "s", frozenset({"k"})), {"data": {}}, 'Secret "s" in namespace team has no key k'),
        (Need(SECRET, "s"), None, 'Secret "s" is not in namespace team'),
        (Need(CONFIG_MAP, "c", frozenset({"k"})), {"binaryData": {"k": ""}}, ""),
        (Need(CONFIG_MAP, "c"), None, 'ConfigMap "c" is not in'),
        (Need(CLAIM, "w"), None, 'claim "w" is not in'),
        (Need(CLAIM, "w"), {"status": {"phase": "Pending"}}, ""),
        (Need(CLAIM, "w"), {"status": {"phase": "Lost"}}, "lost its volume"),
    ],
)
def test_what_is_lacking_is_said_with_its_name(need: Need, found: Manifest | None, words: str) -> None:
    said = preflight.lacking(need, found, "team")

    assert words in said
    assert bool(said) == bool(words)


@pytest.mark.parametrize(
    ("image", "is_good"),
    [
        ("shoal/engine:1", True),
        ("registry.example.com:5000/team/engine:v1.2-gpu", True),
        ("engine@sha256:" + "0" * 64, True),
        ("localhost/shoal-simulator:dev", True),
        ("Shoal/Engine:1", False),
        ("engine:", False),
        ("", False),
    ],
)
def test_an_image_has_a_name_that_a_node_can_read(image: str, is_good: bool) -> None:
    assert (preflight.misnamed_image(a_pod(image=image)) == "") is is_good


QUOTA = "pods is forbidden: exceeded quota: gpus, requested: {}, used: {}, limited: {}"


@pytest.mark.parametrize(
    ("message", "new", "old", "words"),
    [
        (QUOTA.format("requests.nvidia.com/gpu=1", "requests.nvidia.com/gpu=4", "requests.nvidia.com/gpu=4"), 1, 1, ""),
        (QUOTA.format("requests.nvidia.com/gpu=2", "requests.nvidia.com/gpu=2", "requests.nvidia.com/gpu=4"), 2, 1, ""),
        (
            QUOTA.format("requests.nvidia.com/gpu=2", "requests.nvidia.com/gpu=4", "requests.nvidia.com/gpu=4"),
            2,
            1,
            "allows 4 requests.nvidia.com/gpu and 5 would be used",
        ),
        (QUOTA.format("pods=1,limits.memory=8Gi", "pods=4,limits.memory=1G", "pods=4,limits.memory=100Gi"), 1, 1, ""),
        ("pods is forbidden: something else", 1, 1, ""),
    ],
)
def test_a_quota_is_too_small_only_if_the_old_ones_going_does_not_help(
    message: str, new: int, old: int, words: str
) -> None:
    said = preflight.outgrown(message, [a_pod(gpu=new)], [a_pod(gpu=old)])

    assert words in said
    assert bool(said) == bool(words)


@pytest.mark.parametrize(
    ("text", "expected"), [("2", "2"), ("500m", "0.5"), ("1Ki", "1024"), ("2G", "2000000000"), ("odd", "0")]
)
def test_quantities_are_those_of_kubernetes(text: str, expected: str) -> None:
    assert preflight.amount(text) == Decimal(expected)
