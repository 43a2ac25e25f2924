"""Decide how the ranks of a replica are laid out: which executor runs them, and in which Ray placement group."""

from dataclasses import dataclass
from typing import Literal

from shoal_api.replica_config import ReplicaConfig

Executor = Literal["", "mp", "ray"]


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
    """One bundle for all ranks of this pod: a GPU each, or CPU processes side by side where the pod has none.

    In a gang each rank has a bundle of its own, as the engine's executor wants it. Only the node of rank 0 has a CPU to
    give, so the first bundle, and the Serve actor with it, come to lie where the port is.
    """
    ranks = config.tensor * config.pipeline
    if config.gpus == 0:
        if config.pipeline > 1:  # tried: vLLM 0.32 loads it and dies at its first request
            raise CannotLayOut(
                f"parallelism.pipeline is {config.pipeline}, but without GPUs the engine runs one stage only: set it "
                "to 1 or give the replica GPUs (resources.gpu)"
            )
        return Layout(ranks, "mp", ({"CPU": 1},), 0)
    if config.nodes > 1 and ranks == config.gpus * config.nodes:
        return Layout(ranks, "ray", ({"CPU": 1, "GPU": 1}, *({"GPU": 1.0} for _ in range(ranks - 1))), 0)
    if config.nodes > 1:
        raise CannotLayOut(
            f"tensor × pipeline is {ranks}, but this replica has {config.nodes} pods with {_gpus(config.gpus)} each: "
            "make them equal"
        )
    if ranks > config.gpus:
        raise CannotLayOut(
            f"tensor × pipeline is {ranks}, but this pod has {_gpus(config.gpus)}: lower parallelism or raise "
            "resources.gpu"
        )
    return Layout(ranks, "mp" if ranks > 1 else "", ({"CPU": 1, "GPU": ranks},), ranks)


def _gpus(count: int) -> str:
    return f"{count} GPU{'s' if count != 1 else ''}"
