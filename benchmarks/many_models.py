"""What a thousand models cost gateway and operator beside no traffic at all, without a cluster.

`python benchmarks/many_models.py [--models 1000]` prints the computing of the longest turn of a gateway's loop while
its watch of a stand-in API server tells of many models, the time that its page of metrics takes, and that of an
operator's looks at models that are as they should be, and at models that are gone. Everything listens on loopback.
"""

import argparse
import asyncio
import contextlib
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import psutil

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests/support"))

from cluster_objects import a_model, a_slice, an_endpoint
from fake_cluster import FakeCluster, running
from fake_kube import MODELS, SLICES, FakeKube, a_cluster
from reigns import Reign, a_wish
from shoal_operator.kinds import MADE, MODEL, POD
from shoal_serving.gateway import upstream
from shoal_serving.gateway.access_log import AccessLog
from shoal_serving.gateway.cluster_source import ClusterSource, child_command
from shoal_serving.gateway.exposition import Exposition
from shoal_serving.gateway.metrics import ModelGauges, ModelMetrics, Reading
from shoal_serving.gateway.switchboard import Switchboard
from shoal_serving.gateway.waiting_room import ByteBudget

KEY = bytes(range(32))
MOST_SECONDS = 120.0
CHANGES = 20
LOOKS = 3


class Turns(asyncio.SelectorEventLoop):
    """A loop that knows how much its longest turn computed."""

    longest = 0.0

    def _run_once(self) -> None:
        began = time.thread_time()
        super()._run_once()  # type: ignore[misc]  # the one place that every turn goes through
        self.longest = max(self.longest, time.thread_time() - began)


class Watching:
    """A gateway's routes, followed by its real watching child."""

    def __init__(self, kube: FakeKube, folder: Path) -> None:
        self.turns = cast("Turns", asyncio.get_running_loop())
        self.switchboard = Switchboard(
            upstream.maker(KEY),
            ByteBudget(1 << 30),
            1 << 20,
            AccessLog(lambda: "", None),
            time.monotonic,
            random.Random(7),  # noqa: S311
            lambda _at, _then: None,
        )
        command = child_command(["default"], kube.kubeconfig(folder))
        self.source = ClusterSource(command, self.switchboard.change, time.monotonic)

    def child(self) -> psutil.Process:
        (found,) = psutil.Process().children()
        return found

    def lists(self) -> int:
        return sum(state.lists for state in self.source.states().values())

    async def longest_until(self, fact: Callable[[], bool]) -> str:
        """The computing of the longest turn from now until this is so."""
        self.turns.longest = 0.0
        async with asyncio.timeout(MOST_SECONDS):
            while not fact():  # noqa: ASYNC110 (the facts are in another process)
                await asyncio.sleep(0.01)
        return f"{self.turns.longest * 1000:.1f} ms"


async def watch(kube: FakeKube, folder: Path, models: int) -> None:
    """The rows of the gateway's watch."""
    watching = Watching(kube, folder)
    following = asyncio.create_task(watching.source.run())
    try:
        first = await watching.longest_until(lambda: len(watching.switchboard.table.by_uid) == models)
        row("first list, before the gateway is ready: longest turn of its loop", first)
        lists = watching.lists()
        await asyncio.to_thread(kube.forget)
        row(
            "listed again, nothing other: longest turn",
            await watching.longest_until(lambda: watching.lists() >= lists + 2),
        )
        longest, took = [], []
        for number in range(CHANGES):
            host = f"10.9.{number}.1"
            change = asyncio.create_task(asyncio.to_thread(put_slice, kube, number, host))
            began = time.perf_counter()
            longest.append(await watching.longest_until(partial(is_at, watching, number, host)))
            took.append(time.perf_counter() - began)
            await change
        row(f"one slice changed, {CHANGES} times: longest turn, least · median", spread(longest))
        row("until its route is in force, least · median", spread([f"{seconds * 1000:.0f} ms" for seconds in took]))
        row("memory of the watching child", f"{watching.child().memory_info().rss / 2**20:.0f} MiB")
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


def put_slice(kube: FakeKube, number: int, host: str) -> None:
    """Two pods of a model, the first one at this address."""
    pods = [an_endpoint(f"m-{number}-rev-{index}", address) for index, address in enumerate((host, "10.0.0.2"))]
    kube.put(SLICES, a_slice(*pods, name=f"m-{number}", model_uid=f"uid-m-{number}"))


def is_at(watching: Watching, number: int, host: str) -> bool:
    return any(one.host == host for one in watching.switchboard.table.by_uid[f"uid-m-{number}"].endpoints)


def spread(texts: Sequence[str]) -> str:
    inorder = sorted(texts, key=lambda text: float(text.split()[0]))
    return f"{inorder[0]} · {inorder[len(inorder) // 2]}"


def page(models: int) -> None:
    """The rows of the gateway's metrics."""
    asked = ModelMetrics()
    asked.count_request("/v1/completions", "ok")
    for histogram in (asked.queue_wait, asked.first_token, asked.gap, asked.added, asked.duration):
        histogram.observe(0.02)
    for name, of_each in (("nobody was asked", ModelMetrics()), ("every model was asked", asked)):
        counted = {f"default/m-{number}": of_each for number in range(models)}
        gauges = {model: ModelGauges(1, 2, {"open": 3}, 4) for model in counted}
        reading = Reading(counted, gauges, 5, 6, {})
        row(f"a page of the gateway's metrics: {name}", written(reading))


def written(reading: Reading) -> str:
    began = time.perf_counter()
    pieces = len(list(Exposition(lambda: reading).pieces()))
    return f"{(time.perf_counter() - began) * 1000:.0f} ms in {pieces} pieces"


async def look(models: int) -> None:
    """The rows of the operator."""
    cluster = FakeCluster()
    for number in range(models):
        cluster.add(a_wish(f"m-{number}", replicas=1))
    reign = Reign(cluster)
    uids = [f"uid-m-{number}" for number in range(models)]
    await reign.observe()
    for _ in range(LOOKS):
        for uid in uids:
            await reign.operating.look_at(uid)
        for pod in cluster.of(POD):
            reign.store.saw(POD, cluster.change(POD, pod, {"status": running()}))
        for wish in cluster.of(MODEL):
            reign.store.saw(MODEL, wish)
    row("writes of the operator for one model, from nothing to ready", f"{len(cluster.writes) / models:g}")
    writes, began = len(cluster.writes), time.perf_counter()
    for uid in uids:
        await reign.operating.look_at(uid)
    took = (time.perf_counter() - began) / models
    row("one look of the operator at a model that is as it should be", f"{took * 1000:.2f} ms")
    row("writes of these looks", f"{len(cluster.writes) - writes}")
    gone = [(kind, found) for kind in (MODEL, *MADE) for found in cluster.of(kind)]
    began = time.perf_counter()
    for kind, found in gone:
        reign.store.lost(kind, found)
    for uid in uids:
        await reign.operating.look_at(uid)
    row("all models deleted: what the operator does about it", f"{time.perf_counter() - began:.2f} s")
    reign.queue.close()


def row(what: str, seen: str) -> None:
    print(f"| {what} | {seen} |", flush=True)


@contextlib.contextmanager
def a_kube(models: int) -> Iterator[FakeKube]:
    with a_cluster() as kube:
        for number in range(models):
            kube.put(MODELS, a_model(f"m-{number}"))
            put_slice(kube, number, "10.0.0.1")
        yield kube


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=1000)
    models = parser.parse_args(words).models
    print(f"| {models} models, load {os.getloadavg()[0]:.0f} | |\n|---|---|")
    with tempfile.TemporaryDirectory() as folder, a_kube(models) as kube, asyncio.Runner(loop_factory=Turns) as runner:
        runner.run(watch(kube, Path(folder), models))
    page(models)
    asyncio.run(look(models))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
