"""Valid objects to begin with; a test mentions only what it is about."""

from typing import Any

from shoal_api import modeldeployment
from shoal_api.modeldeployment import API_VERSION, KIND, ModelDeployment


def a_manifest(name: str = "qwen", **spec: Any) -> dict[str, Any]:
    """A small valid manifest; keyword arguments replace parts of the spec."""
    whole = {"model": {"source": "hf://Qwen/Qwen2.5-7B-Instruct"}} | spec
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": whole}


def a_model(name: str = "qwen", *, metadata: dict[str, Any] | None = None, **spec: Any) -> ModelDeployment:
    """The same as an object; `metadata` adds to its metadata."""
    manifest = a_manifest(name, **spec)
    manifest["metadata"] |= metadata or {}
    return modeldeployment.read(manifest)
