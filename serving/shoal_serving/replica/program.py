"""The replica program itself: starts everything, watches it, tells where it is, drains it, and ends all of it."""

import asyncio
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shoal_api.replica_config import ReplicaConfig, Stage
from shoal_api.termination import EXIT_DRAINED, EXIT_FAULT, EXIT_PERMANENT, LastWords
from shoal_serving.replica import faults, limits, own_port, process_tree, start_story
from shoal_serving.replica.engine_log import EngineLog
from shoal_serving.replica.notes import ACTOR, ENGINE_CORE, Died, Joined, Notebook, NoteReader, Serving, Vital
from shoal_serving.replica.own_port import Answer, OwnPort

_TICK_SECONDS = 0.2
_LOOK_SECONDS = 1.0
_PATIENCE_SECONDS = 30.0
"""A busy engine may keep its port waiting; a dead one is seen by its processes at once."""
_DRAIN_PATIENCE_SECONDS = 2.0
_REFUSALS_TO_BELIEVE = 2
_LAST_OUTPUT_SECONDS = 0.5
_LOST_POD_SECONDS = 8.0
"""The engine of a gang dies at once with a rank; that its pod was lost is known some seconds later."""
_POLITE_SECONDS = 3.0
_POLITE_AFTER_FAULT_SECONDS = 0.5
_GIVE_UP_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Ending:
    """How it ends: with last words after a fault, without after a drain."""

    words: LastWords | None

    @property
    def exit_code(self) -> int:
        if self.words is None:
            return EXIT_DRAINED
        return EXIT_PERMANENT if self.words.permanent else EXIT_FAULT


class Program:
    """One run of one replica."""

    def __init__(
        self, config: ReplicaConfig, key: bytes, command: Sequence[str], environment: Mapping[str, str], session: Path
    ) -> None:
        self._config = config
        self._command = command
        self._environment = dict(environment)
        self._session = session
        self._notebook = Notebook(config.directory, time.time)
        self._notes = NoteReader(config.directory)
        self._port = OwnPort(config, key)
        self._vital: dict[int, tuple[str, int]] = {}
        self._serving = False
        self._ready = False
        self._refused = 0
        self._stops = 0
        self._fault: Died | None = None
        self._memory_kills = limits.kills()
        self._shared_memory: set[Path] = set()

    async def run(self) -> Ending:
        """Until the drain is done or something died; nothing of it is left when this returns."""
        self._notebook.forget_notes()
        self._log = EngineLog(self._config.directory, sys.stdout.fileno())
        loop = asyncio.get_running_loop()
        loop.add_reader(self._log.fileno(), self._log.pump)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        self._notebook.report(Stage.RAY)
        self._start()
        looking = asyncio.create_task(self._look()) if self._config.rank == 0 else None
        try:
            ending = await self._live()
        finally:
            if looking is not None:
                looking.cancel()
        self._end_all(_POLITE_SECONDS if ending.words is None else _POLITE_AFTER_FAULT_SECONDS)
        if ending.words is not None:
            self._notebook.report(Stage.FAILED, ending.words.sentence)
        return ending

    def _stop(self) -> None:
        self._stops += 1

    def _start(self) -> None:
        # In a session of its own: Ctrl-C in a terminal asks this program, and it must be the only one that is asked.
        child = subprocess.Popen(self._command, env=self._environment, stdin=subprocess.DEVNULL, start_new_session=True)
        self._remember(Vital(child.pid, "Ray's driver"))

    async def _live(self) -> Ending:
        while self._stops == 0:
            self._observe()
            if self._fault is not None:
                return await self._explain(self._fault)
            await asyncio.sleep(_TICK_SECONDS)
        if not self._ready:
            return Ending(None)
        return await self._drain() if self._config.rank == 0 else await self._follow()

    async def _follow(self) -> Ending:
        """A rank beside the first stays as long as rank 0 drains: without it what runs there would be cut."""
        deadline = time.monotonic() + self._config.settle_seconds + self._config.drain_seconds
        self._notebook.report(Stage.DRAINING)
        while time.monotonic() < deadline and self._stops == 1 and self._fault is None:
            await asyncio.sleep(_TICK_SECONDS)
            self._observe()
        return Ending(None)

    async def _drain(self) -> Ending:
        begun = time.monotonic()
        self._notebook.report(Stage.DRAINING)
        state, settled_at = None, math.inf
        while (asked_at := time.monotonic()) < begun + self._config.drain_seconds and self._stops == 1:
            if state is None or not state.draining:
                state = await self._port.begin_drain(_DRAIN_PATIENCE_SECONDS)
                if state is not None:  # the door lets in until so long after it was told, which may be late
                    settled_at = min(settled_at, time.monotonic() + self._config.settle_seconds)
            else:
                state = await self._port.state(_DRAIN_PATIENCE_SECONDS)
            if asked_at >= settled_at and state is not None and state.in_flight == 0 and not self._port.has_unsent():
                break
            self._observe()
            if self._fault is not None:
                return await self._explain(self._fault)
            await asyncio.sleep(_TICK_SECONDS)
        return Ending(None)

    def _observe(self) -> None:
        """What the processes below have told, and whether the vital ones live."""
        for note in self._notes.new():
            if isinstance(note, Vital):
                self._remember(note)
            elif isinstance(note, Serving):
                self._serving = True
            elif isinstance(note, Joined):
                self._ready = True
                self._notebook.report(Stage.READY, f"rank {self._config.rank} has joined {self._config.head}")
            elif self._fault is None:
                self._fault = note
        process_tree.reap()
        dead = [what for pid, (what, started) in self._vital.items() if not process_tree.is_alive(pid, started)]
        if dead:
            self._die(f"{' and '.join(dead)} died")

    def _remember(self, vital: Vital) -> None:
        process = process_tree.look_up(vital.pid)
        if process is None:
            self._die(f"{vital.what} died")
        else:
            self._vital[vital.pid] = (vital.what, process.started)

    def _die(self, text: str) -> None:
        if self._fault is None:
            self._fault = Died(self._notebook.last_stage(), text, is_refusal=False)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_TICK_SECONDS if not self._ready else _LOOK_SECONDS)
            if not self._serving:
                continue
            answer = await self._port.look(_PATIENCE_SECONDS)
            self._refused = self._refused + 1 if answer is Answer.REFUSED else 0
            if answer is Answer.READY and not self._ready:
                self._ready = True
                self._shared_memory = process_tree.shared_memory_below(os.getpid())
                story = start_story.told(self._notebook.reports(), time.time())
                self._notebook.report(Stage.READY, story)
                print(story, flush=True)
            elif self._ready and answer is Answer.SILENT:
                self._die(f"the engine's port has not answered for {_PATIENCE_SECONDS:.0f} s")
            elif self._ready and self._refused >= _REFUSALS_TO_BELIEVE:
                self._die("the engine's port is closed")

    async def _explain(self, died: Died) -> Ending:
        if self._config.nodes > 1 and not died.is_sentence:
            died = await self._better_known(died)
        await asyncio.sleep(_LAST_OUTPUT_SECONDS)  # the cause is often printed just after the death is noticed
        self._log.pump()
        if ACTOR in died.text and not self._ready and own_port.is_taken(self._config.host, self._config.port):
            # Serve tells that to nobody but files of its own.
            died = Died(died.during, "Failed to bind to address", is_refusal=False)
        killed_for_memory = limits.kills() > self._memory_kills
        return Ending(faults.explain(died, self._log.text(), self._config, killed_for_memory=killed_for_memory))

    async def _better_known(self, died: Died) -> Died:
        deadline = time.monotonic() + _LOST_POD_SECONDS
        while time.monotonic() < deadline and self._stops == 0:
            for note in self._notes.new():
                if isinstance(note, Died) and note.is_sentence:
                    return note
            await asyncio.sleep(_TICK_SECONDS)
        return died

    def _end_all(self, polite_seconds: float) -> None:
        self._shared_memory |= process_tree.shared_memory_below(os.getpid())
        ended = process_tree.end_all_below(
            os.getpid(),
            politely=frozenset(pid for pid, (what, _) in self._vital.items() if what == ENGINE_CORE),
            polite_seconds=polite_seconds,
            give_up_seconds=_GIVE_UP_SECONDS,
            clock=time.monotonic,
            sleep=self._drop_output_and_sleep,
        )
        if not ended:
            left = ", ".join(f"{process.name} ({process.pid})" for process in process_tree.descendants(os.getpid()))
            print(f"these processes would not end: {left}", file=sys.stderr)
        for segment in self._shared_memory:
            segment.unlink(missing_ok=True)
        shutil.rmtree(self._session, ignore_errors=True)

    def _drop_output_and_sleep(self, seconds: float) -> None:
        self._log.drop()  # a process that waits to print could not end; what it prints now is about its own end
        time.sleep(seconds)
