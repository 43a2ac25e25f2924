"""The simulated engine: a batch with a limit, a queue before it, a KV cache, and steps in time."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from shoal_serving.simulator.knobs import Knobs
from shoal_serving.simulator.kv_cache import Hold, KvCache
from shoal_serving.simulator.planning import Plan
from shoal_serving.simulator.wheel import Wheel


class Answering(Protocol):
    """Who sends what the engine has made."""

    def advance(self, steps: int) -> None:
        """So many steps of the plan are done in all."""

    def die(self) -> None:
        """The engine is dead; nothing more comes."""


@dataclass(slots=True, eq=False)
class Run:
    """One request in the engine."""

    plan: Plan
    answering: Answering
    slowness: float = 1.0
    done: int = 0
    due: float = 0.0
    hold: Hold | None = None
    cache: KvCache | None = None
    """Where the hold came from; the knobs can bring a new cache meanwhile."""
    over: bool = False


@dataclass(slots=True)
class Counters:
    """What the metrics tell, since the start."""

    prompt_tokens: int = 0
    generation_tokens: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    rejections: int = 0
    finished: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("stop", "length", "abort", "error"), 0))


class Engine:
    """Runs plans. The loop's time is not used: `clock` gives seconds."""

    def __init__(self, knobs: Knobs, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]) -> None:
        self.counters = Counters()
        self.running = 0
        self.dead = False
        self.cache = KvCache(knobs.kv_blocks, knobs.block_tokens)
        self._clock = clock
        self._wheel = Wheel[Run](loop, clock, self._due)
        self._waiting: deque[Run] = deque()
        self._waiting_sequences = 0
        self._active: set[Run] = set()
        self.turn(knobs)

    @property
    def waiting(self) -> int:
        return self._waiting_sequences

    def turn(self, knobs: Knobs) -> None:
        """The knobs from now on."""
        if (knobs.kv_blocks, knobs.block_tokens) != (self.cache.size, self.cache.block_tokens):
            self.cache = KvCache(knobs.kv_blocks, knobs.block_tokens)
        self._knobs = knobs
        self._even_gap = not knobs.gap_seconds_per_running
        self._at_once = not (
            knobs.first_token_seconds
            or knobs.first_token_seconds_per_token
            or knobs.gap_seconds
            or knobs.gap_seconds_per_running
            or knobs.kv_blocks
        )

    def has_room(self, plan: Plan) -> bool:
        """Whether vLLM's own limit of queued requests lets it in."""
        limit = self._knobs.max_queued
        if limit and self.running + self._waiting_sequences + plan.sequences > limit:
            self.counters.rejections += 1
            return False
        return True

    def served_at_once(self, plan: Plan) -> bool:
        """Whether the engine takes no time at all; then the plan counts as run."""
        if not self._at_once or self.dead or self.running or self._waiting:
            return False
        self._count_start(plan, 0)
        self._count_end(plan)
        return True

    def submit(self, run: Run) -> None:
        if self.served_at_once(run.plan):
            run.over = True
            run.answering.advance(run.plan.longest)
            return
        self._active.add(run)
        self._waiting.append(run)
        self._waiting_sequences += run.plan.sequences
        self._fill()

    def abort(self, run: Run) -> None:
        """Nobody wants the answer any more."""
        if run.over:
            return
        self.counters.finished["abort"] += run.plan.sequences
        if run.hold is None:
            self._waiting.remove(run)
            self._waiting_sequences -= run.plan.sequences
            self._active.discard(run)
            run.over = True
        else:
            self._leave(run)
        self._fill()

    def die(self) -> None:
        """As if the engine's core had been killed: everything in it fails, and what comes later too."""
        self.dead = True
        dying, self._active = self._active, set()
        self._waiting.clear()
        self._waiting_sequences = self.running = 0
        for run in dying:
            run.over = True
            self.counters.finished["error"] += run.plan.sequences
            run.answering.die()

    def _fill(self) -> None:
        while self._waiting:
            run = self._waiting[0]
            if self.running and self.running + run.plan.sequences > self._knobs.max_running:
                return
            hold = self.cache.take(run.plan)
            if hold is None:
                if not self.cache.never_fits(run.plan) or self.running:
                    return
                hold = Hold((), 0, 0)  # it is alone and will never fit better: vLLM would preempt it for ever
            self._waiting.popleft()
            self._waiting_sequences -= run.plan.sequences
            self._start(run, hold)

    def _start(self, run: Run, hold: Hold) -> None:
        run.hold, run.cache = hold, self.cache
        self.running += run.plan.sequences
        self._count_start(run.plan, hold.hit_tokens)
        computed = len(run.plan.prompt) - hold.hit_tokens
        first = self._knobs.first_token_seconds + self._knobs.first_token_seconds_per_token * computed
        run.due = self._clock() + first * run.slowness
        steps = 1
        if not run.plan.streams and self._even_gap and run.plan.longest > 1:
            # Nobody sees the steps of an answer that comes whole.
            steps = run.plan.longest
            run.due += self._knobs.gap_seconds * run.slowness * (steps - 1)
        run.done = steps - 1
        self._wheel.add(run.due, run)

    def _due(self, run: Run) -> None:
        if run.over:
            return
        plan = run.plan
        run.done += 1
        gap = (self._knobs.gap_seconds + self._knobs.gap_seconds_per_running * self.running) * run.slowness
        if not gap:
            run.done = plan.longest
        if run.done < plan.longest:
            if plan.streams:
                run.answering.advance(run.done)
            if not run.over:
                run.due += gap
                self._wheel.add(run.due, run)
            return
        self._leave(run)
        self._count_end(plan)
        run.answering.advance(plan.longest)
        self._fill()

    def _leave(self, run: Run) -> None:
        run.over = True
        self._active.discard(run)
        self.running -= run.plan.sequences
        if run.hold is not None and run.cache is not None:
            run.cache.give_back(run.hold)

    def _count_start(self, plan: Plan, hit_tokens: int) -> None:
        self.counters.prompt_tokens += len(plan.prompt)
        self.counters.prefix_queries += len(plan.prompt)
        self.counters.prefix_hits += hit_tokens

    def _count_end(self, plan: Plan) -> None:
        self.counters.generation_tokens += plan.tokens
        for reason in plan.finish_reasons:
            self.counters.finished[reason] += 1
