"""Routes from Kubernetes: keeps the watching child alive, and puts what it tells in force.

The child may end, be killed or fall silent; what is known stays in force until another one has told everything anew.
"""

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from shoal_api.routes import ModelRoute, RouteDocument
from shoal_serving.gateway import cluster_wire
from shoal_serving.gateway.cluster_wire import LINE_LIMIT, Commit, Gone, State, WatchState, Whole

log = logging.getLogger(__name__)

SILENCE_SECONDS = 15.0
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
        apply: Callable[[RouteDocument], None],
        clock: Callable[[], float],
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        """`command` starts the child."""
        self.has_content = False
        self._command = command
        self._silence_seconds = silence_seconds
        self._apply = apply
        self._clock = clock
        self._routes: dict[str, ModelRoute] = {}
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
        child = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE_LIMIT
        )
        if child.stdin is None or child.stdout is None:
            raise RuntimeError("a child without pipes")
        try:
            return await self._listen(child.stdout, child)
        finally:
            child.stdin.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.wait(), _END_SECONDS)
            if child.returncode is None:
                child.kill()
                await child.wait()

    async def _listen(self, told: asyncio.StreamReader, child: asyncio.subprocess.Process) -> str:
        fresh: dict[str, ModelRoute] | None = {}
        lines = 0
        while True:
            try:
                async with asyncio.timeout(self._silence_seconds):
                    line = await told.readline()
            except TimeoutError:
                child.kill()
                return f"was silent for {self._silence_seconds:g} s"
            if not line.endswith(b"\n"):
                return f"ended with {await child.wait()}"
            try:
                one = cluster_wire.decode(line.rstrip(b"\n"))
            except (ValueError, TypeError) as error:
                child.kill()
                return f"said what cannot be read ({error})"
            routes = self._routes if fresh is None else fresh
            if isinstance(one, ModelRoute):
                routes[one.uid] = one
            elif isinstance(one, Gone):
                routes.pop(one.uid, None)
            elif isinstance(one, State):
                self._note(one.watches)
            elif isinstance(one, Whole):
                self._routes, fresh = _same_where_equal(self._routes, routes), None
                self._put()
            elif isinstance(one, Commit):
                self._put()
            lines += 1
            if lines % _LINES_PER_TURN == 0:
                await asyncio.sleep(0)

    def _note(self, states: Mapping[str, WatchState]) -> None:
        self._now = states
        for name, state in states.items():
            if state.age_seconds >= 0:
                self._heard_at[name] = self._clock() - state.age_seconds

    def _put(self) -> None:
        self.has_content = True
        self._apply(RouteDocument(models=list(self._routes.values())))


_NONE = WatchState(-1.0, 0, {})


def _same_where_equal(old: Mapping[str, ModelRoute], new: Mapping[str, ModelRoute]) -> dict[str, ModelRoute]:
    """The new routes, but the very objects of before where nothing is other: those are not looked at again."""
    return {uid: old[uid] if old.get(uid) == route else route for uid, route in new.items()}
