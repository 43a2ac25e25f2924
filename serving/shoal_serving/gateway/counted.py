"""A request as it is counted: when it came, how long it waited, what is held of it, and how it ended."""

import logging
from abc import abstractmethod
from typing import TYPE_CHECKING, Final

from shoal_serving.gateway.attempt import Attempt, Owner
from shoal_serving.gateway.checking import Checked
from shoal_serving.gateway.errors import Outcome
from shoal_serving.gateway.reply import Client, Reply
from shoal_serving.gateway.retrying import NONE_YET
from shoal_serving.gateway.surfaces import Surface

if TYPE_CHECKING:
    from shoal_serving.gateway.switchboard import Switchboard

log = logging.getLogger(__name__)

_CANCELLED_STATUS: Final = 499


class Counted(Owner):
    """One request to an inference path, once in every count."""

    __slots__ = (
        "_caller",
        "_client_lines",
        "_is_done",
        "_line",
        "_queue_seconds",
        "_queued_at",
        "_reply",
        "_request_id",
        "_size",
        "_switchboard",
        "arrived",
        "history",
    )

    def __init__(
        self,
        switchboard: "Switchboard",
        client: Client,
        surface: Surface,
        checked: Checked,
        size: int,
        arrived: float,
    ) -> None:
        """`size`: the bytes that this request has taken of the budget; they are given back by it."""
        super().__init__(surface, switchboard.clock)
        self.arrived = self._queued_at = arrived
        self.history = NONE_YET
        self._switchboard = switchboard
        self._line = checked.line
        self._caller = checked.caller
        self._request_id = checked.request_id
        self._client_lines = checked.client_lines
        self._reply = Reply(client, surface.dialect, checked.request_id)
        self._size = size
        self._queue_seconds = 0.0
        self._is_done = False

    @abstractmethod
    def check(self, now: float) -> None:
        """Deadlines and heartbeats."""

    @abstractmethod
    def shed(self) -> None:
        """The drain is over."""

    def _own_lines(self, attempt: Attempt | None) -> bytes:
        first = attempt.first_read_at - self.arrived if attempt is not None else 0.0
        if self._queue_seconds == 0.0:
            tenths = int(first * 10_000 + 0.5)
            return b"%bserver-timing: queue;dur=0.0, first-byte;dur=%d.%d\r\n" % (
                self._client_lines,
                tenths // 10,
                tenths % 10,
            )
        return b"%bserver-timing: queue;dur=%.1f, first-byte;dur=%.1f\r\n" % (
            self._client_lines,
            self._queue_seconds * 1000,
            first * 1000,
        )

    def _give_back(self) -> None:
        """What was held of it is needed no more."""
        self._switchboard.budget.give_back(self._size)
        self._size = 0

    def _finish(self, outcome: Outcome, attempt: Attempt | None = None) -> None:
        """The one end of every exchange: everything is counted and freed here."""
        switchboard, metrics = self._switchboard, self._line.metrics
        self._is_done = True
        switchboard.exchanges.discard(self)
        if self._size:
            switchboard.budget.give_back(self._size)
            self._size = 0
        now = self.clock()
        duration = now - self.arrived
        metrics.count_request(self.surface.path, outcome)
        metrics.duration.observe(duration)
        metrics.queue_wait.observe(self._queue_seconds)
        first_byte = 0.0
        if attempt is not None:
            first_byte = attempt.first_read_at - self.arrived
            if self.history.attempts == 1:
                metrics.added.observe(attempt.sent_at - self.arrived - self._queue_seconds + now - attempt.last_read_at)
        if not switchboard.access_log.is_on:
            return
        switchboard.access_log.note(
            self._request_id,
            self._caller.name,
            self._line.id,
            self.surface.path,
            outcome,
            _CANCELLED_STATUS if outcome is Outcome.CANCELLED else self._reply.status,
            self.history.attempts,
            self._queue_seconds,
            first_byte,
            duration,
            self._reply.size,
        )

    def _log(self, reason: str, attempt: Attempt, because: str) -> None:
        log.info(
            "request=%s replica=%s reason=%s because=%s",
            self._request_id.decode("ascii"),
            attempt.endpoint.facts.replica,
            reason,
            because,
        )
