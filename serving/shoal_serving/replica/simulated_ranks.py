"""The door to Ray for the ranks of a simulated engine: an actor in each bundle of the gang's placement group, no more.

They take the places that vLLM's workers would take, and the engine dies with any of them, as vLLM does.
"""

import asyncio
import sys
from collections.abc import Callable


async def start(count: int, on_death: Callable[[], None]) -> None:
    """Returns when every rank runs; calls `on_death` when one of them ends."""
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    class Rank:
        async def where(self) -> str:
            address: str = ray.util.get_node_ip_address()
            return address

        async def run(self) -> None:
            await asyncio.Event().wait()

    group = ray.util.get_current_placement_group()
    ranks = [
        ray.remote(Rank)
        .options(
            num_cpus=0,
            num_gpus=1,
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank),
        )
        .remote()
        for rank in range(count)
    ]
    places = await asyncio.gather(*(rank.where.remote() for rank in ranks))
    _tell(", ".join(f"rank {rank} runs on {place}" for rank, place in enumerate(places)))
    running = asyncio.gather(*(rank.run.remote() for rank in ranks))

    def died(task: "asyncio.Future[list[None]]") -> None:
        if not task.cancelled() and task.exception() is not None:
            _tell(f"a rank died: {task.exception()}")
            on_death()

    running.add_done_callback(died)


def _tell(text: str) -> None:
    print(text, file=sys.__stdout__, flush=True)  # Serve keeps what goes to the present one in files of its own
