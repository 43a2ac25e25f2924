"""The door to Ray for the ranks of a simulated engine: an actor in each bundle of the gang's placement group, no more.

They take the places that vLLM's workers would take, and the engine dies with any of them, as vLLM does.
"""

import asyncio
from collections.abc import Callable


async def start(count: int, on_death: Callable[[], None]) -> None:
    """Returns when every rank runs; calls `on_death` when one of them ends."""
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    class Rank:
        async def where(self) -> str:
            node: str = ray.get_runtime_context().get_node_id()
            return node

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
    for number, place in enumerate(places):
        print(f"rank {number} runs on node {place}", flush=True)
    running = asyncio.gather(*(rank.run.remote() for rank in ranks))

    def died(task: "asyncio.Future[list[None]]") -> None:
        if not task.cancelled() and task.exception() is not None:
            print(f"a rank died: {task.exception()}", flush=True)
            on_death()

    running.add_done_callback(died)
