"""A watch is begun anew whatever ends it, and nothing that fails empties what is known."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from cluster_objects import a_model, a_slice, an_endpoint
from facts import soon
from fake_kube import MODELS, SLICES, FakeKube, a_cluster
from shoal_serving.gateway import cluster_watch
from shoal_serving.gateway.cluster_watch import Api, Feed, Pace, Resource, Watch

QUICK = Pace(
    watch_seconds=60,
    grace_seconds=60,
    list_seconds=60,
    first_pause_seconds=0.01,
    longest_pause_seconds=0.05,
    shortest_watch_seconds=0.01,
)


@dataclass
class Known:
    """What the feed was told, kept like a store keeps it."""

    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    replaced: int = 0
    smallest: int = 1_000_000
    """Of all that was known after a list."""

    def replace(self, namespace: str, found: list[Any]) -> None:
        self.objects = {item["metadata"]["name"]: item for item in found}
        self.replaced += 1
        self.smallest = min(self.smallest, len(found))

    def change(self, found: Any, is_deleted: bool) -> None:
        name = found["metadata"]["name"]
        if is_deleted:
            del self.objects[name]
        else:
            self.objects[name] = found

    @property
    def names(self) -> set[str]:
        return set(self.objects)


@pytest.fixture
def kube() -> Iterator[FakeKube]:
    with a_cluster() as kube:
        for name in ("a", "b"):
            kube.put(MODELS, a_model(name))
        yield kube


@contextlib.asynccontextmanager
async def watching(
    kube: FakeKube,
    folder: Path,
    resource: Resource = cluster_watch.MODELS,
    namespace: str = "",
    pace: Pace = QUICK,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[tuple[Watch, Known]]:
    known, api = Known(), Api(kube.kubeconfig(folder))
    feed = Feed(known.replace, known.change, lambda: None)
    watch = Watch(api, resource, namespace, feed, clock, lambda: 0.5, pace)
    task = asyncio.create_task(watch.run())
    try:
        await soon(lambda: watch.lists or task.done() or watch.losses)
        yield watch, known
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await api.close()


async def changes_arrive(kube: FakeKube, known: Known, name: str) -> None:
    await asyncio.to_thread(kube.put, MODELS, a_model(name))
    await soon(lambda: name in known.names)
    await asyncio.to_thread(kube.delete, MODELS, "default", name)
    await soon(lambda: name not in known.names)


def test_it_lists_and_follows(kube: FakeKube, tmp_path: Path) -> None:
    async def story() -> None:
        async with watching(kube, tmp_path) as (watch, known):
            assert known.names == {"a", "b"}
            await changes_arrive(kube, known, "c")
            assert (watch.lists, watch.losses) == (1, {})

    asyncio.run(story())


def test_only_shoals_own_slices_are_asked_for(kube: FakeKube, tmp_path: Path) -> None:
    kube.put(SLICES, a_slice(an_endpoint(), name="ours"))
    foreign = a_slice(an_endpoint(), name="foreign")
    foreign["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "helm"}
    kube.put(SLICES, foreign)

    async def story() -> None:
        async with watching(kube, tmp_path, cluster_watch.SLICES) as (_, known):
            assert known.names == {"ours"}

    asyncio.run(story())


def test_one_namespace_is_asked_for_by_its_own_path(kube: FakeKube, tmp_path: Path) -> None:
    kube.put(MODELS, a_model("elsewhere", "other"))

    async def story() -> None:
        async with watching(kube, tmp_path, namespace="other") as (_, known):
            assert known.names == {"elsewhere"}
            assert all("/namespaces/other/" in url for url in kube.asked)

    asyncio.run(story())


def test_long_lists_come_in_pages(kube: FakeKube, tmp_path: Path) -> None:
    for number in range(cluster_watch.PAGE + 5):
        kube.put(MODELS, a_model(f"m{number}"))

    async def story() -> None:
        async with watching(kube, tmp_path) as (watch, known):
            assert len(known.names) == cluster_watch.PAGE + 7
            assert (watch.lists, kube.count("list")) == (1, 2)

    asyncio.run(story())


def test_a_watch_that_ends_in_its_time_goes_on_without_a_list(kube: FakeKube, tmp_path: Path) -> None:
    pace = Pace(watch_seconds=1, first_pause_seconds=0.01)

    async def story() -> None:
        async with watching(kube, tmp_path, pace=pace) as (watch, known):
            await soon(lambda: kube.count("watch") >= 2)
            await changes_arrive(kube, known, "c")
            assert (watch.lists, watch.losses) == (1, {})

    asyncio.run(story())


def test_a_cut_connection_goes_on_where_it_was(kube: FakeKube, tmp_path: Path) -> None:
    async def story() -> None:
        async with watching(kube, tmp_path) as (watch, known):
            await soon(lambda: kube.count("watch") == 1)
            await asyncio.to_thread(kube.cut)
            await changes_arrive(kube, known, "c")
            assert (watch.lists, watch.losses) == (1, {"Closed": 1})

    asyncio.run(story())


def test_changes_that_the_server_forgot_are_found_by_a_list(kube: FakeKube, tmp_path: Path) -> None:
    async def story() -> None:
        async with watching(kube, tmp_path) as (watch, known):
            await soon(lambda: kube.count("watch") == 1)
            kube.refuse["watch"] = 503
            await asyncio.to_thread(kube.delete, MODELS, "default", "a")
            await asyncio.to_thread(kube.forget)
            kube.refuse.clear()
            await soon(lambda: known.names == {"b"})
            await changes_arrive(kube, known, "c")
            assert watch.losses["Expired"] == 1
            assert watch.lists == 2

    asyncio.run(story())


@pytest.mark.parametrize(
    ("garbage", "loss"),
    [
        (b"<html>\n", "Garbage"),
        (b'{"type": "ADDED"}\n', "Garbage"),
        (b'{"type": "MODIFIED", "object": {"kind": "x"}}\n', "Garbage"),
        (b"[]\n", "Garbage"),
        (b'{"type": "ADD', "Garbage"),
        (b'{"type": "ERROR", "object": {"code": 500, "message": "broken"}}\n', "Refused"),
        (b'{"type": "ERROR", "object": null}\n', "Garbage"),
    ],
)
def test_what_cannot_be_read_leads_to_a_list_and_takes_nothing_away(
    kube: FakeKube, tmp_path: Path, garbage: bytes, loss: str
) -> None:
    async def story() -> None:
        kube.garbage["watch"] = garbage
        async with watching(kube, tmp_path) as (watch, known):
            await soon(lambda: watch.losses.get(loss, 0) >= 2)
            assert known.names == {"a", "b"}
            kube.garbage.clear()
            await changes_arrive(kube, known, "c")
            assert known.smallest == 2

    asyncio.run(story())


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense",
        b"[]",
        b"{}",
        b'{"items": []}',
        b'{"items": {}, "metadata": {"resourceVersion": "1"}}',
        b'{"kind": "Status"}',
    ],
)
def test_a_list_that_is_none_leaves_the_old_one(kube: FakeKube, tmp_path: Path, answer: bytes) -> None:
    async def story() -> None:
        async with watching(kube, tmp_path) as (watch, known):
            kube.garbage["list"] = answer
            await asyncio.to_thread(kube.forget)
            await soon(lambda: watch.losses.get("Garbage", 0) >= 2)
            assert (known.names, watch.lists) == ({"a", "b"}, 1)
            kube.garbage.clear()
            await changes_arrive(kube, known, "c")

    asyncio.run(story())


@pytest.mark.parametrize("status", [401, 403, 404, 410, 429, 500, 503])
def test_a_refusing_server_takes_nothing_away(
    kube: FakeKube, tmp_path: Path, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        async with watching(kube, tmp_path) as (watch, known):
            kube.refuse.update(list=status, watch=status)
            await asyncio.to_thread(kube.cut)
            await soon(lambda: sum(watch.losses.values()) >= 4)
            assert (known.names, watch.lists) == ({"a", "b"}, 1)
            kube.refuse.clear()
            await changes_arrive(kube, known, "c")
            assert known.smallest == 2

    with caplog.at_level(logging.WARNING):
        asyncio.run(story())
    said = [record.message for record in caplog.records if "as the test wishes" in record.message]
    assert len(said) == 1, "what goes on failing in one way is said once"
    assert f"because={status}: as the test wishes" in said[0]


def test_while_the_server_is_away_the_known_stays_and_after_that_all_is_followed(
    kube: FakeKube, tmp_path: Path
) -> None:
    async def story() -> None:
        async with watching(kube, tmp_path) as (watch, known):
            await asyncio.to_thread(kube.go)
            await soon(lambda: watch.losses.get("Unreachable", 0) >= 3)
            assert known.names == {"a", "b"}
            await asyncio.to_thread(kube.come)
            await changes_arrive(kube, known, "c")
            assert watch.lists == 1

    asyncio.run(story())


def test_a_server_that_was_never_there_is_waited_for(kube: FakeKube, tmp_path: Path) -> None:
    kube.go()

    async def story() -> None:
        async with watching(kube, tmp_path) as (watch, known):
            assert (watch.lists, watch.heard_at) == (0, None)
            await asyncio.to_thread(kube.come)
            await soon(lambda: known.names == {"a", "b"})

    asyncio.run(story())


def test_a_silent_watch_is_given_up(kube: FakeKube, tmp_path: Path) -> None:
    pace = Pace(watch_seconds=1, grace_seconds=-0.8, first_pause_seconds=0.01)

    async def story() -> None:
        async with watching(kube, tmp_path) as (_, known):
            pass
        kube.hangs.add("watch")
        async with watching(kube, tmp_path, pace=pace) as (watch, known):
            await soon(lambda: watch.losses.get("Silent", 0) >= 2)
            assert (known.names, watch.lists) == ({"a", "b"}, 1)
            kube.hangs.clear()
            await changes_arrive(kube, known, "c")

    asyncio.run(story())


def test_a_silent_list_is_asked_again(kube: FakeKube, tmp_path: Path) -> None:
    kube.hangs.add("list")

    async def story() -> None:
        async with watching(kube, tmp_path, pace=replace(QUICK, list_seconds=0.3)) as (watch, known):
            await soon(lambda: watch.losses.get("Silent", 0) >= 2)
            assert known.replaced == 0
            kube.hangs.clear()
            await soon(lambda: known.names == {"a", "b"})

    asyncio.run(story())


def test_a_server_that_ends_every_watch_at_once_is_not_asked_without_a_pause(kube: FakeKube, tmp_path: Path) -> None:
    kube.garbage["watch"] = b"\n"

    async def story() -> None:
        began = time.monotonic()
        async with watching(kube, tmp_path, pace=Pace(first_pause_seconds=0.1)) as (watch, _):
            await soon(lambda: kube.count("watch") >= 4)
            assert time.monotonic() - began >= 0.3
            assert watch.losses == {}

    asyncio.run(story())


@pytest.mark.parametrize("content", ["", "{}", "nonsense: [", "kind: Config\ncurrent-context: none\n"])
def test_a_kubeconfig_that_leads_nowhere_is_said_and_read_again(
    kube: FakeKube, tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        known = Known()
        path = kube.kubeconfig(tmp_path)
        good = path.read_text()
        path.write_text(content)
        api = Api(path)
        feed = Feed(known.replace, known.change, lambda: None)
        watch = Watch(api, cluster_watch.MODELS, "", feed, time.monotonic, lambda: 0.5, QUICK)
        task = asyncio.create_task(watch.run())
        await soon(lambda: watch.losses.get("Unreachable", 0) >= 2)
        path.write_text(good)
        await soon(lambda: known.names == {"a", "b"})
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await api.close()

    asyncio.run(story())
    assert "kubeconfig does not lead to a cluster" in caplog.text


def test_a_namespace_that_stays_refused_is_barred_until_it_opens(kube: FakeKube, tmp_path: Path) -> None:
    now = 0.0
    kube.put(MODELS, a_model("late", "closed"))

    async def story() -> None:
        nonlocal now
        kube.refuse["closed"] = 403
        async with watching(kube, tmp_path, namespace="closed", clock=lambda: now) as (watch, known):
            now = QUICK.barred_seconds - 1
            assert not watch.is_barred, "roles may still be on their way"
            now = QUICK.barred_seconds
            assert watch.is_barred
            kube.refuse.clear()
            await soon(lambda: known.names == {"late"})
            assert not watch.is_barred

    asyncio.run(story())


@pytest.mark.parametrize(("namespace", "status"), [("", 403), ("default", 500), ("default", 404), ("default", 401)])
def test_other_refusals_and_those_of_the_whole_cluster_are_waited_for(
    kube: FakeKube, tmp_path: Path, namespace: str, status: int
) -> None:
    async def story() -> None:
        kube.refuse["list"] = status
        async with watching(kube, tmp_path, namespace=namespace, pace=replace(QUICK, barred_seconds=0)) as (watch, _):
            await soon(lambda: watch.losses.get("Refused", 0) >= 3)
            assert not watch.is_barred

    asyncio.run(story())
