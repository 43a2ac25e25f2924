"""On Kubernetes the gateway finds out by itself whether a model's streams may go on at another replica."""

import pytest

from shoal_api.routing import Continuation
from shoal_serving.gateway.cluster_routes import read_model

META = {"namespace": "a", "name": "m", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("spec", "continuation", "separates"),
    [
        ({}, Continuation.EXACT, False),
        ({"routing": {"continuation": "Off"}}, Continuation.OFF, False),
        ({"engine": {"args": ["--max-model-len", "8"]}}, Continuation.EXACT, False),
        ({"engine": {"args": ["--reasoning-parser=qwen3"]}}, Continuation.EXACT, True),
    ],
)
def test_the_manifest_says_it(spec: dict[str, object], continuation: Continuation, separates: bool) -> None:
    route = read_model({"metadata": META, "spec": spec})

    assert route is not None
    assert (route.routing.continuation, route.reasoning_parser) == (continuation, separates)
