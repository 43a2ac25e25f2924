"""Decide how the ranks of a replica are laid out: which executor runs them, and in which Ray placement group."""

from dataclasses import dataclass
from typing import Literal

from shoal_api.replica_config import ReplicaConfig

Executor = Literal["", "mp"]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the ranks run. The Serve actor sits in the placement group's first bundle."""

    ranks: int
    executor: Executor
    """What vLLM is told; empty: its own choice for a single rank."""
    bundles: tuple[dict[str, float], ...]
    actor_gpus: float


class CannotLayOut(ValueError):
    """Ranks that find no place; the text is one sentence."""


def lay_out(config: ReplicaConfig) -> Layout:
    """One bundle for all ranks of this pod: a GPU each, or CPU processes side by side where the pod has none."""
    ranks = config.tensor * config.pipeline
    if config.gpus == 0:
        if config.pipeline > 1:  # tried: vLLM 0.32 loads it and dies at its first request
            raise CannotLayOut(
                f"parallelism.pipeline is {config.pipeline}, but without GPUs the engine runs one stage only: set it "
                "to 1 or give the replica GPUs (resources.gpu)"
            )
        return Layout(ranks, "mp", ({"CPU": 1},), 0)
    if ranks > config.gpus:
        raise CannotLayOut(
            f"tensor × pipeline is {ranks}, but this pod has {config.gpus} GPU{'s' if config.gpus > 1 else ''}: ranks "
            "over several pods are not supported yet; lower parallelism or raise resources.gpu"
        )
    return Layout(ranks, "mp" if ranks > 1 else "", ({"CPU": 1, "GPU": ranks},), ranks)
