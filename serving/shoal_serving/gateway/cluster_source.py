"""Routes from Kubernetes: keeps the watching child alive, and puts what it tells in force.

The child may end, be killed or fall silent; what is known stays in force until another one has told everything anew.
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shoal_api.routes import ModelRoute
from shoal_serving.gateway import cluster_wire
from shoal_serving.gateway.cluster_wire import LINE_LIMIT, Gone, State, Unreadable, WatchState, Whole

log = logging.getLogger(__name__)

SILENCE_SECONDS = 15.0
START_SECONDS = 180.0
"""Until the first word: importing the client library takes 2 s of a core, which a pod may not have for itself."""
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 10.0

_LINES_PER_TURN = 20
"""Decoded before other things of the loop have their turn: about a millisecond."""
_END_SECONDS = 2.0


def child_command(namespaces: Sequence[str], kubeconfig: Path | None) -> list[str]:
    """What starts a watching child."""
    command = [sys.executable, "-m", "shoal_serving.gateway.cluster_child"]
    command += [f"--namespace={namespace}" for namespace in namespaces]
    return command + ([f"--kubeconfig={kubeconfig}"] if kubeconfig is not None else [])


class ClusterSource:
    """The routes of a cluster, for as long as `run` does."""

    def __init__(
        self,
        command: Sequence[str],
        change: Callable[[Collection[ModelRoute], Collection[str]], None],
        clock: Callable[[], float],
        silence_seconds: float = SILENCE_SECONDS,
        start_seconds: float = START_SECONDS,
    ) -> None:
        """`command` starts the child; `change` puts routes in force, and takes away the models that are gone."""
        self.has_content = False
        self._command = command
        self._silence_seconds = silence_seconds
        self._start_seconds = start_seconds
        self._change = change
        self._clock = clock
        self._in_force: dict[str, ModelRoute] = {}
        self._heard_at: dict[str, float] = {}
        self._now: Mapping[str, WatchState] = {}
        self._earlier: Mapping[str, WatchState] = {}

    async def run(self) -> None:
        """Have one child at any time, until cancelled."""
        pause = 0.0
        while True:
            began = self._clock()
            because = await self._watch()
            self._earlier, self._now = self.states(), {}
            pause = FIRST_PAUSE_SECONDS if self._clock() - began > 60 else max(pause * 2, FIRST_PAUSE_SECONDS)
            pause = min(pause, LONGEST_PAUSE_SECONDS)
            log.warning(
                "reason=WatchEnded because=the watching child %s; what is known stays in force, another begins in %g s",
                because,
                pause,
            )
            await asyncio.sleep(pause)

    def states(self) -> Mapping[str, WatchState]:
        """How the watches are, by resource, over all children."""
        found = {}
        for name in {*self._earlier, *self._now}:
            old, new = self._earlier.get(name, _NONE), self._now.get(name, _NONE)
            losses = dict(old.losses)
            for loss, count in new.losses.items():
                losses[loss] = losses.get(loss, 0) + count
            age = self._clock() - self._heard_at[name] if name in self._heard_at else -1.0
            found[name] = WatchState(age, old.lists + new.lists, losses)
        return found

    async def _watch(self) -> str:
        """One child's life; why it ended."""
        # Shielded: a child that was begun is always ended, too.
        creating = asyncio.create_task(
            asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE_LIMIT
            )
        )
        try:
            return await self._listen(await asyncio.shield(creating))
        except OSError as error:
            return f"could not be started ({error.strerror})"
        finally:
            if not creating.done() or creating.exception() is None:
                await _in_any_case(_end(await creating))

    async def _listen(self, child: asyncio.subprocess.Process) -> str:
        told = _told(child)
        batch = _Batch(seen=set())
        lines = 0
        while True:
            patience = self._silence_seconds if lines else self._start_seconds
            try:
                async with asyncio.timeout(patience):
                    line = await told.readline()
            except TimeoutError:
                child.kill()
                return f"was silent for {patience:g} s"
            except ValueError as error:
                child.kill()
                return f"said more than fits into a line ({error})"
            if not line.endswith(b"\n"):
                return await _ended(child)
            try:
                one = cluster_wire.decode(line.rstrip(b"\n"))
            except Unreadable as error:
                child.kill()
                return f"said what cannot be read ({error})"
            if isinstance(one, State):
                self._note(one.watches)
            elif isinstance(one, ModelRoute):
                batch.add(one, self._in_force)
            elif isinstance(one, Gone):
                batch.gone.add(one.uid)
            else:
                if isinstance(one, Whole) and batch.seen is not None:
                    batch.gone |= self._in_force.keys() - batch.seen
                self._put(batch)
                batch = _Batch(seen=None)
            lines += 1
            if lines % _LINES_PER_TURN == 0:
                await asyncio.sleep(0)

    def _note(self, states: Mapping[str, WatchState]) -> None:
        self._now = states
        for name, state in states.items():
            if state.age_seconds >= 0:
                self._heard_at[name] = self._clock() - state.age_seconds

    def _put(self, batch: "_Batch") -> None:
        if batch.routes or batch.gone or not self.has_content:
            self._change(batch.routes.values(), batch.gone)
        self.has_content = True
        self._in_force.update(batch.routes)
        for uid in batch.gone:
            self._in_force.pop(uid, None)


@dataclass(slots=True)
class _Batch:
    """What is put in force together."""

    seen: set[str] | None
    """Every model that was told, until all were."""
    routes: dict[str, ModelRoute] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)

    def add(self, route: ModelRoute, in_force: Mapping[str, ModelRoute]) -> None:
        """A route; another child tells all of them, though most are as they were."""
        if self.seen is not None:
            self.seen.add(route.uid)
        if in_force.get(route.uid) != route:
            self.routes[route.uid] = route


async def _in_any_case(work: Coroutine[None, None, None]) -> None:
    """Do it to its end, also when we are cancelled meanwhile."""
    doing = asyncio.create_task(work)
    try:
        await asyncio.shield(doing)
    except asyncio.CancelledError:
        await doing
        raise


async def _ended(child: asyncio.subprocess.Process) -> str:
    """Nothing more comes from it; what its end was, unless it lives on all the same."""
    try:
        return f"ended with {await asyncio.wait_for(child.wait(), _END_SECONDS)}"
    except TimeoutError:
        return "closed its output and lives on"


async def _end(child: asyncio.subprocess.Process) -> None:
    """The end of its input ends it; else it is killed."""
    if child.stdin is not None:
        child.stdin.close()
    try:
        await asyncio.wait_for(child.communicate(), _END_SECONDS)
    except TimeoutError:
        if child.returncode is None:
            child.kill()
        await child.communicate()


def _told(child: asyncio.subprocess.Process) -> asyncio.StreamReader:
    if child.stdout is None:
        raise RuntimeError("the watching child has no standard output")
    return child.stdout


_NONE = WatchState(-1.0, 0, {})
