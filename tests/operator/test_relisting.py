"""What a watch never tells is noticed all the same: everything is listed again, soon where it hints at it."""

import asyncio
from collections.abc import Awaitable, Callable

from fake_cluster import FakeCluster
from reigns import Reign, a_wish, settled
from shoal_operator.kinds import MADE, MODEL
from shoal_operator.relisting import MOST_SECONDS, SETTLE_SECONDS, Relisting


class Clockwork(asyncio.SelectorEventLoop):
    """A loop whose clock can be moved."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


def under_clockwork(story: Callable[[Clockwork], Awaitable[None]]) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Clockwork)
        await story(loop)

    with asyncio.Runner(loop_factory=Clockwork) as runner:
        runner.run(run())


async def turns() -> None:
    """Whatever is due happens."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_model_that_went_while_no_watch_told_of_it_is_not_served_for_ever() -> None:
    cluster = settled(a_wish())
    vanished = FakeCluster()

    async def story(loop: Clockwork) -> None:
        reign = Reign(cluster)
        await reign.observe()
        [wish] = reign.store.wishes()

        async def list_all() -> None:
            for kind in (MODEL, *MADE):
                reign.store.replace(kind, [], (await vanished.find_all(kind, None)).version + 1000)

        task = asyncio.create_task(Relisting(list_all).run())
        await turns()
        assert reign.store.wish(wish.uid) is not None
        loop.ahead += MOST_SECONDS + 1
        await turns()
        assert reign.store.wish(wish.uid) is None
        task.cancel()

    under_clockwork(story)


def test_a_list_that_a_watch_read_anew_is_settled_before_all_is_listed_once() -> None:
    async def story(loop: Clockwork) -> None:
        listed: list[float] = []

        async def list_all() -> None:
            listed.append(loop.time())

        relisting = Relisting(list_all)
        task = asyncio.create_task(relisting.run())
        for _ in range(3):
            relisting.was_listed()
            loop.ahead += SETTLE_SECONDS / 2
            await turns()
        assert listed == []
        loop.ahead += SETTLE_SECONDS
        await turns()
        assert len(listed) == 1
        task.cancel()

    under_clockwork(story)
