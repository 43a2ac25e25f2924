"""The simulated engine: its batch, its queue, its cache and its times, on a clock that the test moves."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from shoal_serving.simulator.engine import Engine, Run
from shoal_serving.simulator.knobs import Knobs
from shoal_serving.simulator.planning import Plan


class Time:
    """A clock and the only part of a loop that the engine uses."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._cancelled: set[int] = set()

    def call_later(self, delay: float, callback: Callable[[], None]) -> "Timer":
        self._timers.append((self.now + delay, len(self._timers), callback))
        return Timer(self._cancelled, len(self._timers) - 1)

    def go_to(self, time: float) -> None:
        while True:
            due = [timer for timer in self._timers if timer[0] <= time + 1e-9 and timer[1] not in self._cancelled]
            if not due:
                break
            at, number, callback = min(due, key=lambda timer: timer[:2])
            self._cancelled.add(number)
            self.now = max(self.now, at)
            callback()
        self.now = time


class Timer:
    def __init__(self, cancelled: set[int], number: int) -> None:
        self._cancelled = cancelled
        self._number = number

    def cancel(self) -> None:
        self._cancelled.add(self._number)


class Reader:
    """Notes when which step came."""

    def __init__(self, time: Time) -> None:
        self._time = time
        self.came: list[tuple[float, int]] = []
        self.died = False

    def advance(self, steps: int) -> None:
        self.came.append((round(self._time.now, 3), steps))

    def die(self) -> None:
        self.died = True


class Story:
    """An engine and what happens to it."""

    def __init__(self, **knobs: Any) -> None:
        self.time = Time()
        loop = cast("asyncio.AbstractEventLoop", self.time)
        self.engine = Engine(Knobs(**knobs), loop, lambda: self.time.now)

    def submit(self, prompt: str = "Hello", tokens: int = 3, **fields: Any) -> tuple[Run, Reader]:
        reader = Reader(self.time)
        plan = Plan(
            prompt=prompt, tokens=tokens, longest=tokens, streams=fields.pop("streams", True), finish_reasons=("stop",)
        )
        run = Run(plan, reader, **fields)
        self.engine.submit(run)
        return run, reader


def test_tokens_come_at_their_times() -> None:
    story = Story(first_token_seconds=0.1, first_token_seconds_per_token=0.01, gap_seconds=0.02)
    _, reader = story.submit(prompt="x" * 10)
    story.time.go_to(1)
    assert reader.came == [(0.2, 1), (0.22, 2), (0.24, 3)]


def test_an_answer_that_comes_whole_comes_when_its_last_token_would() -> None:
    story = Story(first_token_seconds=0.1, gap_seconds=0.02)
    _, reader = story.submit(streams=False)
    story.time.go_to(1)
    assert reader.came == [(0.14, 3)]


def test_an_engine_without_times_answers_at_once() -> None:
    story = Story()
    _, reader = story.submit()
    assert reader.came == [(0.0, 3)]


def test_gaps_grow_with_what_runs() -> None:
    story = Story(gap_seconds=0.01, gap_seconds_per_running=0.01)
    _, first = story.submit()
    _, second = story.submit()
    story.time.go_to(1)
    assert first.came == second.came == [(0.0, 1), (0.03, 2), (0.06, 3)]


def test_over_its_batch_requests_wait_in_order() -> None:
    story = Story(gap_seconds=0.1, max_running=1)
    readers = [story.submit()[1] for _ in range(3)]
    story.time.go_to(0)
    assert (story.engine.running, story.engine.waiting) == (1, 2)
    story.time.go_to(2)
    assert [reader.came[0][0] for reader in readers] == [0.0, 0.2, 0.4]
    assert (story.engine.running, story.engine.waiting) == (0, 0)


def test_an_aborted_request_gives_its_place_away() -> None:
    story = Story(gap_seconds=0.1, max_running=1)
    running, _ = story.submit()
    waiting, gone = story.submit()
    _, last = story.submit()
    story.time.go_to(0.1)
    story.engine.abort(waiting)
    story.engine.abort(running)
    story.time.go_to(0.5)
    assert gone.came == []
    assert [at for at, _ in last.came] == [0.1, 0.2, 0.3]
    assert story.engine.counters.finished["abort"] == 2


def test_a_slow_request_takes_its_factor_longer() -> None:
    story = Story(first_token_seconds=0.1, gap_seconds=0.1)
    _, reader = story.submit(slowness=3.0)
    story.time.go_to(2)
    assert reader.came == [(0.3, 1), (0.6, 2), (0.9, 3)]


def test_a_prompt_seen_before_needs_no_second_computation() -> None:
    story = Story(first_token_seconds_per_token=0.01, kv_blocks=100, block_tokens=4)
    _, cold = story.submit(prompt="abcdefgh12", tokens=1)
    story.time.go_to(1)
    _, warm = story.submit(prompt="abcdefgh34", tokens=1)
    _, other = story.submit(prompt="Abcdefgh34", tokens=1)
    story.time.go_to(2)
    assert (cold.came[0][0], warm.came[0][0], other.came[0][0]) == (0.1, 1.02, 1.1)
    assert story.engine.counters.prefix_hits == 8


def test_without_room_in_the_cache_requests_wait() -> None:
    story = Story(gap_seconds=0.1, kv_blocks=4, block_tokens=4)
    _, first = story.submit(prompt="abcdefgh", tokens=4)
    _, second = story.submit(prompt="ABCDEFGH", tokens=4)
    story.time.go_to(0)
    assert (story.engine.running, story.engine.waiting) == (1, 1)
    assert story.engine.cache.usage == 0.75
    story.time.go_to(1)
    assert (first.came[-1], second.came[-1]) == ((0.3, 4), (0.6, 4))
    assert story.engine.cache.usage == 0.0


def test_a_request_that_never_fits_runs_alone() -> None:
    story = Story(gap_seconds=0.1, kv_blocks=2, block_tokens=4)
    _, reader = story.submit(prompt="x" * 100)
    story.time.go_to(1)
    assert reader.came[-1][1] == 3


def test_a_dead_engine_fails_what_runs_and_what_waits() -> None:
    story = Story(gap_seconds=0.1, max_running=1)
    readers = [story.submit()[1] for _ in range(3)]
    story.engine.die()
    story.time.go_to(1)
    assert [reader.died for reader in readers] == [True] * 3
    assert (story.engine.running, story.engine.waiting) == (0, 0)


def test_the_queue_limit_counts_what_runs_and_waits() -> None:
    story = Story(gap_seconds=0.1, max_running=1, max_queued=2)
    plan = story.submit()[0].plan
    assert story.engine.has_room(plan)
    story.submit()
    assert not story.engine.has_room(plan)
    assert story.engine.counters.rejections == 1
