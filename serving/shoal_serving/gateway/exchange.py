"""The life of one request that has a model: it waits, tries endpoints, is answered or refused, and is counted once."""

import logging
from typing import TYPE_CHECKING, Final

from shoal_serving.gateway import patience, rest
from shoal_serving.gateway.attempt import COMMITTED, CONNECTING, Attempt, Outgoing
from shoal_serving.gateway.checking import Checked
from shoal_serving.gateway.counted import Counted
from shoal_serving.gateway.dispatching import Away
from shoal_serving.gateway.errors import Outcome, Refusal
from shoal_serving.gateway.reply import Client
from shoal_serving.gateway.retrying import NONE_YET, ONE_ATTEMPT, Happening, History, Step, verdict
from shoal_serving.gateway.surfaces import Surface
from shoal_serving.gateway.transcript import Transcript, Unreadable
from shoal_serving.gateway.upstream import LiveEndpoint
from shoal_serving.gateway.waiting_room import Admission, Standing

if TYPE_CHECKING:
    from shoal_serving.gateway.switchboard import Switchboard

log = logging.getLogger(__name__)

# Named here once: to ask an enumeration for a member costs more than a count.
_OK: Final = Outcome.OK
_COMPLETE: Final = Happening.COMPLETE


class Exchange(Counted):
    """One request to an inference path. `_attempt` is None while it waits."""

    __slots__ = (
        "_attempt",
        "_body",
        "_engine_lines",
        "_first_line",
        "_is_asked_stream",
        "_is_client_slow",
        "_is_continuing",
        "_transcript",
        "_user",
        "give_up_at",
        "number",
        "revision",
        "tried",
        "turn",
    )

    def __init__(
        self,
        switchboard: "Switchboard",
        client: Client,
        surface: Surface,
        target: bytes,
        checked: Checked,
        size: int,
        arrived: float,
    ) -> None:
        """`size`: the bytes that this request has taken of the budget; they are given back by it."""
        super().__init__(switchboard, client, surface, checked, size, arrived)
        self.number = switchboard.next_number()
        self.turn = 0
        self.tried: set[str] = set()
        self.revision: str | None = None
        self._is_asked_stream = checked.stream
        self._first_line = b"POST %b HTTP/1.1\r\n" % target
        self._engine_lines = checked.engine_lines
        self._body = checked.body
        self._user = checked.user
        self.give_up_at = patience.NEVER
        if checked.patience:
            self.give_up_at = patience.give_up_at(
                arrived,
                checked.patience,
                is_stream=checked.stream,
                heartbeat_after=checked.line.route.queue.heartbeat_after_seconds,
            )
        self._transcript = checked.transcript
        self._attempt: Attempt | None = None
        self._is_continuing = False
        """The stream was cut, and its rest is looked for or comes from another replica."""
        self._is_client_slow = False

    # -- before an endpoint has it

    def start(self) -> None:
        """Find an endpoint, or wait."""
        switchboard, line = self._switchboard, self._line
        switchboard.exchanges.add(self)
        if line.cannot_start and not line.dispatcher.endpoints:
            self._refuse(switchboard.refusals.cannot_start(line.route))
            return
        if switchboard.is_shedding:
            self._refuse(switchboard.refusals.stopping())
            return
        endpoint = line.dispatcher.ask(self)
        if isinstance(endpoint, LiveEndpoint):
            self._try(endpoint)
        elif endpoint is Admission.FULL:
            self._refuse(switchboard.refusals.queue_full(line.route))
        else:
            switchboard.waits(line)

    def granted(self, endpoint: LiveEndpoint) -> None:
        """An endpoint is reserved for this request."""
        self._queue_seconds += self.clock() - self._queued_at
        self._try(endpoint)

    def _try(self, endpoint: LiveEndpoint) -> None:
        self._attempt = attempt = Attempt(self, endpoint, self._line.metrics.gap)
        connection = endpoint.take_idle()
        if connection is None:
            attempt.connect(self._line.route.timeouts.connect_seconds, self._outgoing())
        else:
            attempt.send(connection, self._outgoing())

    def _outgoing(self) -> Outgoing:
        if self._is_continuing and self._transcript is not None:
            return rest.request(self._transcript, self._engine_lines, self._line.dispatcher.limit)
        return (self._first_line, self._engine_lines, self._line.dispatcher.limit, self._body)

    def is_deadly(self) -> bool:
        """Whether an engine ended over this request already."""
        return self.history.deaths > 0

    def standing(self) -> Standing:
        """In whose line it waits."""
        return self._caller.standing(self._user, self._reply.address())

    def sent_away(self, away: Away) -> None:
        """It need not wait any longer."""
        self._queue_seconds += self.clock() - self._queued_at
        self._refuse(self._switchboard.sent_away(away, self._line, self._caller))

    # -- what an attempt brings

    def pass_on(self, attempt: Attempt, lines: bytes, body: bytes) -> None:
        """The most frequent end: a complete answer."""
        if self._is_continuing:
            self.ended(attempt, Happening.FAILED)
            return
        self._through(_COMPLETE)
        if self._reply.is_early:
            self._line.dispatcher.release(attempt.endpoint)
            self._refuse(Refusal(500, "The engine answered without a stream.", "engine_error"))
            return
        self._reply.answer(attempt.status, lines + self._own_lines(attempt), body)
        self._line.dispatcher.release(attempt.endpoint)
        self._finish(_OK, attempt)

    def commit(self, attempt: Attempt, lines: bytes, length: int | None, data: bytes, follows: bool) -> None:
        """The answer begins. Its request is not needed any more."""
        transcript = self._transcript
        if transcript is not None and self._is_continuing:
            self._commit_rest(attempt, transcript, data, follows)
            return
        self._give_back()
        self._body = b""
        if attempt.is_stream:
            self._line.metrics.first_token.observe(attempt.last_read_at - self.arrived)
            if transcript is not None:
                data = self._begin_transcript(transcript, data)
        else:
            self._transcript = None
        lines += self._own_lines(attempt)
        self._reply.begin(attempt.status, lines, length, data, attempt.last_read_at, follows)

    def more(self, data: bytes, follows: bool) -> None:
        """Further bytes of the committed answer."""
        if self._transcript is not None:
            try:
                data = self._transcript.show(data)
            except Unreadable as error:
                self._abandon_rest(str(error))
                return
        self._reply.more(data, follows)

    def passed_on(self, attempt: Attempt) -> None:
        """The committed answer is complete."""
        self._through(_COMPLETE)
        self._reply.end()
        self._line.dispatcher.release(attempt.endpoint)
        if self._is_continuing:
            self._finish(Outcome.CONTINUED)
        else:
            self._finish(_OK, attempt)

    def cut(self, attempt: Attempt, because: str) -> None:
        """The one place that decides on an answer that broke after its commit: it goes on elsewhere, or is lost."""
        self._log("UpstreamLost", attempt, because)
        endpoint, dispatcher, transcript = attempt.endpoint, self._line.dispatcher, self._transcript
        revision = endpoint.facts.revision
        decided = verdict(
            Happening.CUT,
            self.history,
            committed=True,
            untried=dispatcher.has_untried(self.tried | {endpoint.uid}, revision),
            exact=transcript is not None and transcript.can_continue and not self._switchboard.is_shedding,
        )
        self._line.metrics.count_attempt(Happening.CUT)
        self.history = decided.history
        self._attempt = None
        if decided.step is Step.CONTINUE:
            self._is_continuing = True
            self.give_up_at = patience.NEVER  # it had its first byte
            self.tried.add(endpoint.uid)
            self.revision = revision
            self._queued_at = self.clock()
            self._reply.heard(attempt.last_read_at)
            dispatcher.ask_again(self, endpoint)
            return
        if transcript is not None and transcript.is_whole:
            self._reply.end(transcript.ending())
            self._finish(Outcome.CONTINUED)
        elif attempt.is_stream:
            self._lose(attempt.next_sequence())
        else:
            self._reply.cut()
            self._finish(Outcome.UPSTREAM_LOST)
        dispatcher.release(endpoint)

    def ended(self, attempt: Attempt, happening: Happening, found: Refusal | None = None) -> None:
        """The attempt brought no answer: decide what follows."""
        endpoint, switchboard, dispatcher = attempt.endpoint, self._switchboard, self._line.dispatcher
        self._line.metrics.count_attempt(happening)
        self._log(happening.name.title(), attempt, f"status {found.status}" if found else happening)
        untried = dispatcher.has_untried(self.tried | {endpoint.uid}, self.revision)
        decided = verdict(happening, self.history, committed=False, untried=untried)
        self.history = decided.history
        if decided.tried:
            self.tried.add(endpoint.uid)
        if decided.step is Step.SAME_AGAIN:
            self._attempt = again = Attempt(self, endpoint, self._line.metrics.gap)
            again.connect(self._line.route.timeouts.connect_seconds, self._outgoing())
            return
        self._attempt = None
        if decided.step is Step.ANOTHER and not switchboard.is_shedding:
            self._queued_at = self.clock()
            dispatcher.ask_again(self, endpoint)
            return
        dispatcher.release(endpoint)
        self._refuse(switchboard.refusals.after(decided.step, decided.history, found))

    # -- the rest of a cut stream

    def _begin_transcript(self, transcript: Transcript, data: bytes) -> bytes:
        """The first events as the client may see them; what is kept of them counts as held."""
        data = transcript.take(data)
        if self._switchboard.budget.take(transcript.prompt_bytes):
            self._size = transcript.prompt_bytes
        else:
            transcript.forget_prompt()
        return data

    def _commit_rest(self, attempt: Attempt, transcript: Transcript, data: bytes, follows: bool) -> None:
        """The rest of the cut stream begins, at another replica."""
        dropped = rest.dropped(attempt)
        if dropped is None:
            attempt.abandon()
            self.ended(attempt, Happening.FAILED)
            return
        self._log("Continued", attempt, f"{len(transcript.ids())} tokens were there, {dropped} of them are made again")
        transcript.resume(dropped)
        if self._is_client_slow and attempt.connection is not None:
            attempt.connection.pause()
        self.more(data, follows)

    def _abandon_rest(self, because: str) -> None:
        attempt = self._attempt
        if attempt is not None:
            attempt.abandon()
            self.cut(attempt, because)

    def _lose(self, sequence: int = 0) -> None:
        """A committed stream has no end."""
        self._reply.lose(sequence)
        self._finish(Outcome.UPSTREAM_LOST)

    # -- what happens from outside

    def check(self, now: float) -> None:
        """Called a few times a second: deadlines and heartbeats."""
        if self._is_done:
            return
        route, attempt = self._line.route, self._attempt
        if attempt is None:
            since = self._queued_at if self._is_continuing else self.arrived
            refusal = self._switchboard.refusals.of_waiting(self._line, now, since, self.give_up_at)
            if refusal is not None:
                self._line.dispatcher.leave(self)
                self._queue_seconds += now - self._queued_at
                self._refuse(refusal)
                return
        else:
            timeouts = route.timeouts
            attempt.time_out(now, self._is_asked_stream, timeouts.first_byte_seconds, timeouts.idle_seconds)
            if self._is_done:
                return
            attempt = self._attempt
        reply = self._reply
        if not reply.is_committed:
            if self._is_asked_stream and route.queue.heartbeat_after_seconds:
                reply.beat_early(now, self.arrived, route.queue.heartbeat_after_seconds, self._own_lines(None))
        elif attempt is None or attempt.stage != COMMITTED:
            reply.beat(now)
        elif attempt.is_stream:
            reply.beat(now, attempt.last_read_at)

    def shed(self) -> None:
        """The gateway stops and its drain is over: a waiting request is refused."""
        if self._attempt is None and not self._is_done:
            self._queue_seconds += self.clock() - self._queued_at
            self._line.dispatcher.leave(self)
            self._refuse(self._switchboard.refusals.stopping())

    def client_gone(self) -> None:
        """Nobody waits for the answer: free the endpoint at once."""
        if self._is_done:
            return
        attempt = self._attempt
        if attempt is None:
            self._line.dispatcher.leave(self)
            self._queue_seconds += self.clock() - self._queued_at
        else:
            was_connecting, has_all = attempt.stage == CONNECTING, attempt.has_all()
            attempt.abandon()
            if not was_connecting:
                self._through(_COMPLETE if has_all else Happening.ABORTED)
            self._line.dispatcher.release(attempt.endpoint)
            if has_all:  # many clients close at the last event, and do not wait for the end of the body
                self._finish(Outcome.CONTINUED if self._is_continuing else _OK)
                return
        self._finish(Outcome.CANCELLED)

    def client_slow(self) -> None:
        """The client does not keep up: the engine's socket waits, too."""
        self._is_client_slow = True
        attempt = self._attempt
        if attempt is not None and attempt.stage == COMMITTED and attempt.connection is not None:
            attempt.connection.pause()

    def client_ready(self) -> None:
        """The client caught up."""
        self._is_client_slow = False
        attempt = self._attempt
        if attempt is not None and attempt.connection is not None and attempt.connection.paused:
            attempt.last_read_at = self.clock()
            attempt.connection.resume()

    # -- the ends

    def _through(self, happening: Happening) -> None:
        """An attempt was the last one; its endpoint is still to be released."""
        self._line.metrics.count_attempt(happening)
        history = self.history
        self.history = ONE_ATTEMPT if history is NONE_YET else History(history.attempts + 1, history.deaths)
        self._attempt = None

    def _refuse(self, refusal: Refusal) -> None:
        """Answer with an error."""
        if self._reply.is_committed:
            self._lose()
        else:
            self._reply.refuse(refusal, self._own_lines(None))
            self._finish(refusal.outcome)
