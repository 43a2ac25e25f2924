"""An exchange that goes wrong on command."""

import os
import signal
from collections.abc import Callable

from shoal_serving.simulator.exchange import Exchange, Line, Over
from shoal_serving.simulator.faults import Fault, Kind
from shoal_serving.simulator.journal import Entry
from shoal_serving.simulator.planning import LAST_CHUNK, Plan, chunk

_ENDINGS = frozenset({Kind.CUT, Kind.SILENT, Kind.ERROR_EVENT, Kind.ENGINE_DEATH, Kind.PROCESS_DEATH})


def happens_while_answering(fault: Fault) -> bool:
    """Whether the request runs in the engine before the fault shows."""
    return fault.kind in _ENDINGS


class FaultyExchange(Exchange):
    """Counts its events and does, after so many of them, what the fault says."""

    __slots__ = ("_events", "_fault", "_kill_engine", "_passed", "_struck")

    def __init__(
        self,
        line: Line,
        plan: Plan,
        answer_id: bytes,
        second: int,
        entry: Entry,
        over: Over,
        fault: Fault,
        kill_engine: Callable[[], None],
    ) -> None:
        super().__init__(line, plan, answer_id, second, entry, over)
        self._fault = fault
        self._kill_engine = kill_engine
        self._events = plan.events(answer_id.decode(), second)
        self._passed = 0
        self._struck = False

    def begin(self) -> None:
        if self.plan.streams and not self._head_sent and not self.is_over and not self._struck:
            self.entry.status = 200
            self._head_sent = True
            opening = self._frames.head
            self.line.write(opening[: opening.index(b"\r\n\r\n") + 4])
            self._pass_on(self._events[0])

    def flush(self) -> None:
        if self.line.paused or self._struck or self.is_over:
            return
        if not self.plan.streams:
            self._strike_whole()
            return
        self.begin()
        while self._sent < self._ready and not self.line.paused and not self._struck and not self.is_over:
            self._sent += 1
            self._pass_on(self._events[self._sent])
            self.entry.steps_sent = self._sent
        if self._sent == self.plan.longest and not self._struck and not self.is_over:
            self.line.write(LAST_CHUNK)
            self.finish("finished")

    def _pass_on(self, events: list[bytes]) -> None:
        for event in events:
            if self._passed == self._fault.after:
                self._strike(event)
                return
            self._passed += 1
            self.line.write(chunk(event))

    def _strike(self, event: bytes) -> None:
        fault = self._fault
        self._struck = True
        if fault.inside:
            whole = chunk(event)
            self.line.write(whole[: len(whole) // 2])
        if fault.kind is Kind.ERROR_EVENT:
            self.end_with_error(fault.code)
        else:
            self._break_off()

    def _strike_whole(self) -> None:
        fault = self._fault
        self._struck = True
        whole = self._frames.whole.replace(self._frames.mark, self.id)
        body_at = whole.index(b"\r\n\r\n") + 4
        if fault.kind is Kind.CUT or (fault.kind is Kind.SILENT and fault.inside):
            self.entry.status = 200
            self.line.write(whole[: (body_at + len(whole)) // 2])
        self._break_off()

    def _break_off(self) -> None:
        match self._fault.kind:
            case Kind.CUT:
                self._cut()
            case Kind.ENGINE_DEATH:
                self.die()
                self._kill_engine()
            case Kind.PROCESS_DEATH:
                kill_this_process()
            case _:
                pass  # silent: nothing more comes, until the client leaves

    def _cut(self) -> None:
        self._over(self, "failed")
        self.line.cut(self._fault.reset)


def kill_this_process() -> None:
    """As the kernel's out-of-memory killer would."""
    os.kill(os.getpid(), signal.SIGKILL)
