"""Decide vLLM's arguments: the model owner's words, then ours, and the proof that nothing of theirs overrides ours."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shoal_api import engine_flags
from shoal_api.replica_config import ReplicaConfig
from shoal_serving.replica import environment
from shoal_serving.replica.ranks import Layout


class RefusedArgument(ValueError):
    """An argument that Shoal does not let through; the text is one sentence that names it."""


@dataclass(frozen=True, slots=True)
class Flag:
    """What vLLM's parser knows of one flag."""

    names: tuple[str, ...]
    destination: str
    default: Any


def build(config: ReplicaConfig, layout: Layout) -> list[str]:
    """The words for vLLM's parser. Ours come last: of two equal flags the parser keeps the later one."""
    for word in config.args:
        _let_through(word)
    return [*config.args, *_ours(config, layout)]


def verify(config: ReplicaConfig, layout: Layout, flags: Iterable[Flag], parsed: Mapping[str, Any]) -> None:
    """Refuse what got past the words: short flags with a value stuck to them, positional words, files of flags."""
    ours = _destinations(config, layout)
    for flag in flags:
        wanted = ours.get(flag.destination, flag.default)
        is_guarded = any(engine_flags.is_owned(name) or engine_flags.loads_code(name) for name in flag.names)
        if flag.destination in ours or is_guarded or not flag.names:
            found = parsed.get(flag.destination, wanted)
            if found != wanted:
                name = flag.names[0] if flag.names else "a word that belongs to no flag"
                raise RefusedArgument(
                    f"engine.args must not set {name} (found {found!r}): Shoal sets it itself; remove it"
                )


def _let_through(word: str) -> None:
    if word in ("--", "-"):
        raise RefusedArgument(f"engine.args contains {word!r}, which is no flag of the engine; remove it")
    if engine_flags.is_owned(word):
        raise RefusedArgument(
            f"engine.args contains {word}, but Shoal sets the address, name, keys, model and parallelism of the engine "
            "itself; remove it (names: spec.model.names, parallelism: spec.parallelism)"
        )
    if engine_flags.loads_code(word):
        raise RefusedArgument(
            f"engine.args contains {word}: flags that load a configuration file or code of the caller's own are refused"
        )
    if engine_flags.logs_prompts(word):
        raise RefusedArgument(f"engine.args contains {word}: prompts and answers never go into logs; remove it")


def _ours(config: ReplicaConfig, layout: Layout) -> list[str]:
    model, revision = split_source(config.source)
    words = ["--model", model]
    if revision:
        words += ["--revision", revision]
    words += ["--served-model-name", config.served_name, "--host", config.host, "--port", str(config.port)]
    words += ["--tensor-parallel-size", str(config.tensor), "--pipeline-parallel-size", str(config.pipeline)]
    if layout.executor:
        words += ["--distributed-executor-backend", layout.executor]
    return words


def _destinations(config: ReplicaConfig, layout: Layout) -> dict[str, Any]:
    model, revision = split_source(config.source)
    destinations: dict[str, Any] = {
        "model": model,
        "served_model_name": [config.served_name],
        "host": config.host,
        "port": config.port,
        "tensor_parallel_size": config.tensor,
        "pipeline_parallel_size": config.pipeline,
        "distributed_executor_backend": layout.executor or None,
    }
    if revision:
        destinations["revision"] = revision
    return destinations


def split_source(source: str) -> tuple[str, str]:
    """A hub's id and its revision (`ORG/MODEL@REVISION`); a directory's path has none."""
    if environment.is_local(source):
        return source, ""
    model, _, revision = source.partition("@")
    return model, revision


def with_defaults(words: Sequence[str], gpus: int) -> list[str]:
    """The words with what makes a small machine usable, unless the model owner says otherwise.

    Without a GPU the engine's compiler costs minutes at the start and gains little.
    """
    given = {re.split("[.=]", word, maxsplit=1)[0].replace("_", "-") for word in words if word.startswith("--")}
    if gpus == 0 and not given & {"--enforce-eager", "--no-enforce-eager", "--compilation-config"}:
        return ["--enforce-eager", *words]
    return list(words)
