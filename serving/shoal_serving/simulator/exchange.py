"""One request on one connection, from its admission to the last byte of its answer."""

from collections.abc import Callable
from typing import Protocol

from shoal_serving.simulator import vllm_errors
from shoal_serving.simulator.engine import Run
from shoal_serving.simulator.journal import Entry
from shoal_serving.simulator.planning import DONE, LAST_CHUNK, Plan, chunk, head, stream_head
from shoal_serving.simulator.vllm_errors import Surface

AT_ONCE = 64
"""So many steps are written in one piece before the connection is asked whether it still takes more."""


class Line(Protocol):
    """The connection that the answer goes out on."""

    paused: bool

    def write(self, data: bytes) -> None: ...
    def cut(self, reset: bool) -> None:
        """The connection ends here and now, whatever was promised."""

    def answered(self) -> None:
        """The answer is complete; the next request may come."""


Over = Callable[["Exchange", str], None]


class Exchange:
    """Sends what the engine has made, as fast as the client takes it."""

    __slots__ = (
        "_complete",
        "_frames",
        "_head_sent",
        "_over",
        "_ready",
        "_sent",
        "entry",
        "id",
        "line",
        "plan",
        "run",
        "second",
    )

    def __init__(self, line: Line, plan: Plan, answer_id: bytes, second: int, entry: Entry, over: Over) -> None:
        self.line = line
        self.plan = plan
        self.id = answer_id
        self.second = second
        self.run: Run | None = None
        self.entry = entry
        self._frames = plan.frames(len(answer_id), second)
        self._over = over
        self._ready = self._sent = 0
        self._complete = self._head_sent = False

    @property
    def surface(self) -> Surface:
        return "anthropic" if self.entry.path.startswith(b"/v1/messages") else "openai"

    @property
    def is_over(self) -> bool:
        return self.entry.ended_at is not None

    def begin(self) -> None:
        """A stream's headers go out long before its first event."""
        if self.plan.streams and not self._head_sent and not self.is_over:
            self._head_sent = True
            self.entry.status = 200
            self.line.write(self._frames.head.replace(self._frames.mark, self.id))

    def advance(self, steps: int) -> None:
        """So many steps of the plan are done in all."""
        self._ready = steps
        self._complete = steps >= self.plan.longest
        self.flush()

    def flush(self) -> None:
        """Sends what is ready, unless the client is slower."""
        if self.line.paused:
            return
        plan, frames, line = self.plan, self._frames, self.line
        if self._complete and not self._head_sent and (not plan.streams or plan.longest <= AT_ONCE):
            self.entry.status = 200
            if plan.streams:
                self.entry.steps_sent = plan.longest
            line.write(frames.whole.replace(frames.mark, self.id))
            self.finish("finished")
            return
        if not plan.streams:
            return
        self.begin()
        while self._sent < self._ready and not line.paused:
            end = min(self._ready, self._sent + AT_ONCE)
            step = frames.steps[self._sent] if end == self._sent + 1 else b"".join(frames.steps[self._sent : end])
            self._sent = self.entry.steps_sent = end
            if end == plan.longest:
                step += LAST_CHUNK
            line.write(step.replace(frames.mark, self.id))
        if self._sent == plan.longest:
            self.finish("finished")

    def die(self) -> None:
        """The engine is dead; nothing more comes."""
        if not self._head_sent:
            self.refuse(vllm_errors.by_status(500, self.surface))
        elif self.plan.dying is None:
            self._over(self, "failed")
            self.line.cut(reset=False)
            return
        else:
            self.line.write(b"".join(chunk(event.encode()) for event in self.plan.dying) + LAST_CHUNK)
        self.finish("failed")

    def refuse(self, refused: vllm_errors.Refused) -> None:
        self.entry.status = refused.status
        allow = f"allow: {refused.allow}\r\n" if refused.allow else ""
        self.line.write(head(refused.status, self.second, len(refused.body), more=allow) + refused.body)

    def finish(self, outcome: str) -> None:
        self._over(self, outcome)
        self.line.answered()

    def client_left(self) -> None:
        if not self.is_over:
            self._over(self, "aborted")

    def send_stream_error(self, status: int) -> None:
        """A 200 whose first event is an error."""
        self.entry.status = 200
        self.line.write(stream_head(self.second))
        self._head_sent = True
        self.end_with_error(status)

    def end_with_error(self, status: int) -> None:
        if self.surface == "anthropic":
            events = [vllm_errors.anthropic_event(status)]
        elif self.entry.path.startswith(b"/v1/responses"):
            events = [vllm_errors.event(status)]
        else:
            events = [vllm_errors.event(status), DONE]
        self.line.write(b"".join(chunk(text.encode()) for text in events) + LAST_CHUNK)
        self.finish("failed")
