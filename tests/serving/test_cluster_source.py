"""The watching child may end, fall silent or talk nonsense: what it told stays in force until the next one told all."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest

from cluster_objects import a_model
from facts import soon
from shoal_api.routes import ModelRoute
from shoal_serving.gateway import cluster_routes, cluster_wire
from shoal_serving.gateway.cluster_source import ClusterSource
from shoal_serving.gateway.cluster_wire import Commit, Gone, State, Told, WatchState, Whole


def a_route(name: str, **status: object) -> ModelRoute:
    route = cluster_routes.read_model(a_model(name, status=status))
    assert route is not None
    return route


class Stage:
    """A child that says what lies in a file, and then what the test wishes."""

    def __init__(self, folder: Path) -> None:
        self.says = folder / "says"
        self.changes = 0
        self.in_force: dict[str, ModelRoute] = {}
        self.starts = folder / "starts"
        self.starts.touch()

    def say(self, *told: Told, raw: bytes = b"") -> None:
        self.says.write_bytes(cluster_wire.encode(told) + raw)

    def source(self, then: str = "exec cat", silence_seconds: float = 60, start_seconds: float = 60) -> ClusterSource:
        """`cat` lives until its standard input ends, like the real child."""
        script = f"echo >> {self.starts}; cat {self.says}; {then}"
        return ClusterSource(["sh", "-c", script], self.change, time.monotonic, silence_seconds, start_seconds)

    def change(self, routes: Collection[ModelRoute], gone: Collection[str]) -> None:
        self.changes += 1
        self.in_force.update((route.uid, route) for route in routes)
        for uid in gone:
            self.in_force.pop(uid, None)

    @property
    def names(self) -> set[str]:
        return {route.name for route in self.in_force.values()}

    @property
    def children(self) -> int:
        return len(self.starts.read_text())


@contextlib.asynccontextmanager
async def running(source: ClusterSource) -> AsyncIterator[None]:
    task = asyncio.create_task(source.run())
    try:
        yield
    finally:
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_a_child_that_can_say_nothing_any_more_and_lives_on_is_followed_by_another(stage: Stage) -> None:
    async def story() -> None:
        stage.say(a_route("a"), Whole())
        async with running(stage.source("exec sleep 1000 >&-")):
            await soon(lambda: stage.children >= 2)
            assert stage.names == {"a"}

    asyncio.run(story())


def test_nothing_is_in_force_before_all_was_told(stage: Stage) -> None:
    async def story() -> None:
        stage.say(State({"m": WatchState(1.0, 0, {})}), a_route("a"), raw=b"")
        source = stage.source()
        async with running(source):
            await soon(lambda: "m" in source.states())
            assert (source.has_content, stage.changes) == (False, 0)
        stage.say(a_route("a"), Whole())
        async with running(source):
            await soon(lambda: source.has_content)
            assert stage.names == {"a"}

    asyncio.run(story())


def test_changes_are_in_force_together(stage: Stage) -> None:
    async def story() -> None:
        stage.say(a_route("a"), a_route("b"), Whole(), a_route("c"), Gone("uid-a"), Gone("uid-unknown"), Commit())
        async with running(stage.source()):
            await soon(lambda: stage.names == {"b", "c"})
            assert stage.changes == 2

    asyncio.run(story())


@pytest.mark.parametrize("end", ["exit 3", "kill -9 $$", "printf half; exit 0"])
def test_what_a_child_told_outlives_it_until_the_next_told_all(stage: Stage, end: str) -> None:
    async def story() -> None:
        stage.say(a_route("a"), a_route("b"), Whole())
        source = stage.source(then=end)
        async with running(source):
            await soon(lambda: stage.names == {"a", "b"})
            stage.say(a_route("b", replicas=3), a_route("c"))
            await soon(lambda: stage.children >= 2)
            children = stage.children
            await soon(lambda: stage.children > children)
            assert stage.names == {"a", "b"}
            before = dict(stage.in_force)
            stage.say(a_route("b"), a_route("c"), Whole())
            await soon(lambda: stage.names == {"b", "c"})
            assert stage.in_force["uid-b"] is before["uid-b"], "what is the same is not put in force again"

    asyncio.run(story())


@pytest.mark.parametrize("raw", [b"X\n", b"R{}\n", b"\n", b"\x00\xff\n"])
def test_a_child_that_talks_nonsense_is_replaced(stage: Stage, raw: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        stage.say(a_route("a"), Whole(), raw=raw)
        async with running(stage.source()):
            await soon(lambda: stage.children >= 2)
            assert stage.names == {"a"}

    asyncio.run(story())
    assert "said what cannot be read" in caplog.text


def test_a_silent_child_is_replaced_even_if_it_does_not_listen(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        stage.say(a_route("a"), Whole())
        async with running(stage.source(then="exec sleep 60", silence_seconds=0.2)):
            await soon(lambda: stage.children >= 2)
            assert stage.names == {"a"}

    asyncio.run(story())
    assert "was silent for 0.2 s" in caplog.text


def test_a_child_that_never_says_a_word_is_replaced(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        stage.say()
        source = stage.source(then="exec sleep 60", start_seconds=0.3)
        async with running(source):
            await soon(lambda: stage.children >= 2)
            assert not source.has_content

    asyncio.run(story())
    assert "was silent for 0.3 s" in caplog.text


def test_counts_go_on_over_children(stage: Stage) -> None:
    async def story() -> None:
        stage.say(State({"models": WatchState(2.0, 1, {"Closed": 2})}))
        source = stage.source(then="exit 1")
        async with running(source):
            await soon(lambda: stage.children >= 3 and "models" in source.states())
            state = source.states()["models"]
            assert state.lists >= 2
            assert state.losses["Closed"] == 2 * state.lists
            assert state.age_seconds >= 2.0

    asyncio.run(story())


def test_an_empty_cluster_is_known_to_be_empty(stage: Stage) -> None:
    async def story() -> None:
        stage.say(Whole())
        source = stage.source()
        async with running(source):
            await soon(lambda: source.has_content)
            assert (stage.changes, stage.names) == (1, set())

    asyncio.run(story())
