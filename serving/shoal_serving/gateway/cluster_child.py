"""The gateway's watching child: decodes what Kubernetes says, and tells its parent which routes became others.

A process of its own, since decoding a long list holds the interpreter for longer than a token may be late. It ends when
its standard input does, so it never outlives its parent.
"""

import argparse
import asyncio
import contextlib
import logging
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from shoal_serving.gateway import cluster_wire
from shoal_serving.gateway.cluster_store import Store
from shoal_serving.gateway.cluster_watch import MODELS, SLICES, Api, Feed, Watch
from shoal_serving.gateway.cluster_wire import STATE_SECONDS, Commit, Gone, State, Told, WatchState, Whole

TOGETHER_SECONDS = 0.01
"""Changes that come within so long of each other are told together: a rollout of many models is not one swap each."""


_RESOURCES = (MODELS, SLICES)


class Teller:
    """Writes differences to the parent, once everything was listed."""

    def __init__(
        self, watches: Sequence[Watch], store: Store, write: Callable[[bytes], None], clock: Callable[[], float]
    ) -> None:
        self._watches = watches
        self._store = store
        self._write = write
        self._clock = clock
        self._is_whole = False

    def tell_changes(self) -> None:
        """What became other since the last time; nothing before everything that can be listed was listed once."""
        listed = {watch.resource for watch in self._watches if watch.lists}
        if len(listed) < len(_RESOURCES) or not all(watch.lists or watch.is_barred for watch in self._watches):
            return
        differences = self._store.differences()
        told: list[Told] = [*differences.changed, *(Gone(uid) for uid in differences.gone)]
        if not self._is_whole:
            self._is_whole = True
            self._write(cluster_wire.encode([*told, Whole()]))
        elif told:
            self._write(cluster_wire.encode([*told, Commit()]))

    def tell_state(self) -> None:
        """How the watches are; also that this process lives."""
        states = {resource.plural: self._state(resource.plural) for resource in _RESOURCES}
        self._write(cluster_wire.encode([State(states)]))

    def _state(self, resource: str) -> WatchState:
        watches = [watch for watch in self._watches if watch.resource.plural == resource]
        heard = [watch.heard_at for watch in watches if not watch.is_barred]
        losses: dict[str, int] = {}
        for watch in watches:
            for loss, count in watch.losses.items():
                losses[loss] = losses.get(loss, 0) + count
        oldest = None if None in heard or not heard else min(at for at in heard if at is not None)
        age = -1.0 if oldest is None else round(self._clock() - oldest, 3)
        return WatchState(age, sum(watch.lists for watch in watches), losses)


async def watch(namespaces: Sequence[str], kubeconfig: Path | None) -> None:
    """Watch until standard input ends."""
    loop = asyncio.get_running_loop()
    stdin = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    pipe, _ = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sys.stdout)
    api, store, alarm = Api(kubeconfig), Store(), asyncio.Event()
    feeds = (
        (MODELS, Feed(store.replace_models, store.change_model, alarm.set)),
        (SLICES, Feed(store.replace_slices, store.change_slice, alarm.set)),
    )
    watches = [
        Watch(api, resource, namespace, feed, time.monotonic, random.random)
        for resource, feed in feeds
        for namespace in namespaces or ("",)
    ]
    teller = Teller(watches, store, pipe.write, time.monotonic)

    async def tell_changes() -> None:
        while True:
            await alarm.wait()
            await asyncio.sleep(TOGETHER_SECONDS)
            alarm.clear()
            teller.tell_changes()

    async def tell_state() -> None:
        while True:
            teller.tell_state()
            await asyncio.sleep(STATE_SECONDS)

    async def end() -> None:
        await stdin.read()

    tasks = [
        asyncio.create_task(work) for work in (*(each.run() for each in watches), tell_changes(), tell_state(), end())
    ]
    try:
        # None but the last ends by itself: whatever ends first ends the process, and the parent starts another.
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await api.close()


def main() -> int:
    """The program; its exit code."""
    # The parent tells it to end by closing the pipe; what is sent to the whole group is meant for the parent.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    logging.basicConfig(
        level=logging.INFO, format="time=%(asctime)s level=%(levelname)s %(message)s", stream=sys.stderr
    )
    logging.Formatter.converter = time.gmtime
    parser = argparse.ArgumentParser(prog="python -m shoal_serving.gateway.cluster_child", description=__doc__)
    parser.add_argument("--namespace", action="append", default=[], metavar="NAME")
    parser.add_argument("--kubeconfig", type=Path, metavar="FILE")
    given = parser.parse_args()
    with contextlib.suppress(BrokenPipeError):
        asyncio.run(watch(given.namespace, given.kubeconfig))
    return 0


if __name__ == "__main__":
    sys.exit(main())
