"""Decide which request a newcomer is shown for a model that has become ready."""

import json
from collections.abc import Mapping
from typing import Any, Literal

Kind = Literal["chat", "completions", "embeddings", "unknown"]

_EXAMPLES: dict[Kind, tuple[str, dict[str, Any]]] = {
    "chat": ("chat/completions", {"messages": [{"role": "user", "content": "Hello"}]}),
    "completions": ("completions", {"prompt": "Hello", "max_tokens": 16}),
    "embeddings": ("embeddings", {"input": "Hello"}),
}


def kind_of(config: Mapping[str, Any], has_chat_template: bool) -> Kind:
    """What a model with this config.json answers to."""
    architectures = [str(name) for name in config.get("architectures") or []]
    if any(name.endswith(("ForCausalLM", "ForConditionalGeneration")) for name in architectures):
        return "chat" if has_chat_template else "completions"
    return "embeddings" if any(name.endswith("Model") for name in architectures) else "unknown"


def curl(url: str, name: str, kind: Kind) -> str:
    """One line for the shell."""
    if kind == "unknown":
        return f"curl {url}/v1/models"
    path, said = _EXAMPLES[kind]
    body = json.dumps({"model": name} | said)
    return f"curl {url}/v1/{path} -H 'content-type: application/json' -d '{body}'"
