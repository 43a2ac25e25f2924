"""Decide what follows when a try did not end in an answer: the table "What happens to a request" as one function."""

from dataclasses import dataclass, replace
from enum import StrEnum

ATTEMPTS_MOST = 3
DEATHS_MOST = 2


class Happening(StrEnum):
    """How a try at one endpoint ended."""

    UNREACHABLE = "unreachable"
    """Refused, reset on connect, connect timeout, failed hello, wrong pod: no byte of the request went out."""
    BUSY = "busy"
    """503 with our replica's own mark."""
    STALE = "stale"
    """A reused connection was closed before the first byte of the answer."""
    CLOSED = "closed"
    """A fresh connection was closed or reset before the first byte of the answer."""
    OVERLOADED = "overloaded"
    """502, 503, 504 or 429 of an engine, or a stream that begins with an overload error."""
    FAILED = "failed"
    """500, or a stream that begins with another error."""
    REJECTED = "rejected"
    """400, 401, 403, 404, 413, 415, 422: the request's own fault."""
    CUT = "cut"
    """The body ended too early, or an error event came after the commit."""
    NO_FIRST_BYTE = "no_first_byte"
    SILENT = "silent"
    """No byte for `timeouts.idleSeconds` after the first."""
    COMPLETE = "complete"
    ABORTED = "aborted"
    """The client left, or the gateway ended the try on its own."""


class Step(StrEnum):
    """What follows."""

    ANOTHER = "another"
    """Back to the room at the old place, for an endpoint that was not tried (or was only busy, or out)."""
    SAME_AGAIN = "same_again"
    """The same endpoint once more, on a fresh connection."""
    PASS_ON = "pass_on"  # noqa: S105
    """The engine's own answer goes to the client."""
    OVERLOADED = "overloaded"
    """503 `server_is_overloaded`."""
    DEADLY = "deadly"
    """503 as well, but it should not be tried again: it ended two engines."""
    TIMED_OUT = "timed_out"
    """504 `engine_timeout`."""
    CONTINUE = "continue"
    """The rest of the committed stream comes from an endpoint of the same revision that was not tried."""
    LOST = "lost"
    """The committed answer ends in an error."""


_DEATHS = frozenset({Happening.CLOSED, Happening.FAILED, Happening.CUT})
_FREE = frozenset({Happening.UNREACHABLE, Happening.BUSY})


@dataclass(frozen=True, slots=True)
class History:
    """What a request has behind it. `doubted`: its last try ended on a reused connection, perhaps merely an old one."""

    attempts: int = 0
    deaths: int = 0
    doubted: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows, the history that it leads to, and whether the endpoint counts as tried."""

    step: Step
    history: History
    tried: bool


NONE_YET = History()
ONE_ATTEMPT = History(1)


def verdict(happening: Happening, history: History, *, committed: bool, untried: bool, exact: bool = False) -> Verdict:
    """What follows on `happening`. `untried`: whether the route has another endpoint with no attempt spent on it.

    `exact`: the committed answer is a stream that another endpoint can go on with.
    """
    if happening is Happening.UNREACHABLE and history.doubted:
        # The connection was not old: the engine behind it is gone, and this request was the last it saw.
        happening = Happening.CLOSED
    if happening in _FREE:
        return Verdict(Step.ANOTHER, replace(history, doubted=False), tried=False)
    if happening is Happening.STALE:
        if not history.doubted:
            return Verdict(Step.SAME_AGAIN, replace(history, doubted=True), tried=False)
        happening = Happening.CLOSED
    after = History(history.attempts + 1, history.deaths + (happening in _DEATHS))
    if committed:
        step = Step.CONTINUE if exact and _may_try_again(after, untried) else Step.LOST
    else:
        step = _step(happening, after, untried)
    return Verdict(step, after, tried=True)


def _may_try_again(after: History, untried: bool) -> bool:
    return after.attempts < ATTEMPTS_MOST and after.deaths < DEATHS_MOST and untried


def _step(happening: Happening, after: History, untried: bool) -> Step:
    if happening is Happening.REJECTED:
        return Step.PASS_ON
    if happening is Happening.NO_FIRST_BYTE:
        return Step.TIMED_OUT
    if _may_try_again(after, untried):
        return Step.ANOTHER
    if happening is Happening.FAILED:
        return Step.PASS_ON
    if happening is Happening.SILENT:
        return Step.TIMED_OUT
    return Step.DEADLY if after.deaths >= DEATHS_MOST else Step.OVERLOADED


def of_status(status: int) -> Happening:
    """What an engine's final status without our replica's mark means."""
    if status < 400:
        return Happening.COMPLETE
    if status in (429, 502, 503, 504):
        return Happening.OVERLOADED
    return Happening.FAILED if status >= 500 else Happening.REJECTED
