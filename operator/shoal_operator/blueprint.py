"""Decide what a replica process is started with on one machine: its configuration, its variables, its needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shoal_api import engine_flags
from shoal_api.modeldeployment import ModelDeployment
from shoal_api.replica_config import ReplicaConfig
from shoal_api.termination import LastWords

_NOT_HANDED_ON = frozenset({"VIRTUAL_ENV", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONSAFEPATH"})
_GIB = 2**30
_ENGINE_BYTES = 2 * _GIB
"""Ray's processes, the engine's processes and their libraries, without weights and cache."""
_CACHE_VARIABLE = "VLLM_CPU_KVCACHE_SPACE"


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What every replica of one revision shares; kept as long as an older revision may have to be restored."""

    model: str
    revision: str
    served_name: str
    source: str
    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    tensor: int
    pipeline: int
    gpus: int
    drain_seconds: int

    @property
    def local_path(self) -> Path | None:
        """Where the model lies, if on this machine."""
        return Path(self.source) if self.source.startswith("/") else None


@dataclass(frozen=True, slots=True)
class Place:
    """What one process of a replica gets of the machine."""

    replica: str
    uid: str
    port: int
    directory: Path
    model_key_file: Path
    ray_token_file: Path


def of(md: ModelDeployment, revision: str) -> Blueprint:
    """The blueprint of this model's present revision."""
    spec = md.spec
    return Blueprint(
        model=md.id,
        revision=revision,
        served_name=md.canonical_name,
        source=spec.model.source.removeprefix("file://").removeprefix("hf://"),
        args=tuple(spec.engine.args),
        env=tuple((variable.name, variable.value) for variable in spec.engine.env),
        tensor=spec.parallelism.tensor,
        pipeline=spec.parallelism.pipeline,
        gpus=spec.resources.gpu,
        drain_seconds=spec.rollout.drain_seconds,
    )


def config(blueprint: Blueprint, place: Place) -> ReplicaConfig:
    """The file that the replica program reads."""
    return ReplicaConfig(
        model=blueprint.model,
        replica=place.replica,
        replica_uid=place.uid,
        revision=blueprint.revision,
        served_name=blueprint.served_name,
        source=blueprint.source,
        args=list(blueprint.args),
        tensor=blueprint.tensor,
        pipeline=blueprint.pipeline,
        gpus=blueprint.gpus,
        host="127.0.0.1",
        port=place.port,
        drain_seconds=blueprint.drain_seconds,
        model_key_file=place.model_key_file,
        ray_token_file=place.ray_token_file,
        directory=place.directory,
        termination_message=place.directory / "termination",
    )


def environment(
    blueprint: Blueprint, inherited: Mapping[str, str], python_path: Path, gpus: tuple[str, ...]
) -> dict[str, str]:
    """The user's own variables, less what would lead the engine astray, and the manifest's over them."""
    variables = {
        name: value
        for name, value in inherited.items()
        if name not in _NOT_HANDED_ON and not engine_flags.is_forbidden_env(name)
    }
    return (
        variables
        | dict(blueprint.env)
        | {"PYTHONPATH": str(python_path), "PYTHONUNBUFFERED": "1", "CUDA_VISIBLE_DEVICES": ",".join(gpus)}
    )


def memory_bytes(blueprint: Blueprint, weights: int, inherited: Mapping[str, str]) -> int:
    """Roughly what a replica needs of the machine's memory; weights that lie on GPUs pass through it in parts only."""
    if blueprint.gpus:
        return _ENGINE_BYTES
    asked = dict(blueprint.env).get(_CACHE_VARIABLE) or inherited.get(_CACHE_VARIABLE) or "1"
    cache = int(asked) if asked.isdecimal() else 1
    return _ENGINE_BYTES + int(weights * 1.2) + cache * _GIB


def too_little_memory(blueprint: Blueprint, needed: int, available: int) -> LastWords | None:
    """The sentence of a model that does not fit into the memory that is left; it may fit later."""
    if needed <= available:
        return None
    return LastWords(
        f"{blueprint.model}: spec.model.source {blueprint.source} needs about {needed / _GIB:.1f} GiB of memory and "
        f"{available / _GIB:.1f} GiB are available: end other programs, serve a smaller model, or lower "
        f"{_CACHE_VARIABLE} in spec.engine.env",
        permanent=False,
    )


def too_few_gpus(blueprint: Blueprint, free: int, total: int) -> LastWords | None:
    """The sentence of a replica that finds no GPU; permanent where the machine will never have enough."""
    if blueprint.gpus <= free:
        return None
    if total == 0:
        sentence = f"is {blueprint.gpus} and this machine has no GPU: set it to 0 for the CPU engine"
    elif blueprint.gpus > total:
        sentence = f"is {blueprint.gpus} and this machine has {total}: lower it together with spec.parallelism"
    else:
        sentence = f"is {blueprint.gpus} and {free} of {total} are free: lower spec.replicas or end another model"
    return LastWords(f"{blueprint.model}: spec.resources.gpu {sentence}", permanent=blueprint.gpus > total)
