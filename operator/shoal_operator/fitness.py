"""Decide whether an operator is fit to be asked (ready) and whether only a new start can help it (not live)."""

from dataclasses import dataclass

HEARD_SECONDS = 15.0
"""Leader or not, an operator reads the Lease every two seconds; after so long without an answer it knows nothing."""
STILL_SECONDS = 120.0
"""A part that has been at one thing for so long is stuck: the longest answer that it waits for takes 30 s."""
LOOK_SECONDS = 600.0
"""One look at a model is many calls, each with an end of its own."""


@dataclass(frozen=True, slots=True)
class Signs:
    """What the parts of an operator did last, in seconds of one clock that never goes back."""

    started: float
    asked: float | None = None
    """When it last set out to read or renew the Lease."""
    heard: float | None = None
    """When the API server last answered that."""
    leads: bool = False
    has_listed: bool = False
    """Whether this reign has read what there is."""
    oldest_look: float | None = None
    """When the look at a model that takes longest now began."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Yes or no, and why."""

    holds: bool
    because: str


def is_ready(signs: Signs, now: float) -> Verdict:
    """It leads and has read what there is, or stands by; either way the API server answers it."""
    if signs.heard is None:
        return Verdict(False, "the API server has given no word about the Lease yet (the log says why)")
    silent = now - signs.heard
    if silent > HEARD_SECONDS:
        return Verdict(False, f"the API server has given no word about the Lease for {silent:.0f} s")
    if not signs.leads:
        return Verdict(True, "stands by: another operator holds the Lease, or it is about to be free")
    if not signs.has_listed:
        return Verdict(False, "holds the Lease and has not read yet what there is (its log says why)")
    return Verdict(True, "leads")


def is_live(signs: Signs, now: float) -> Verdict:
    """Nothing in it is stuck. An API server that does not answer is no reason: a new start would change nothing."""
    still = now - (signs.started if signs.asked is None else signs.asked)
    if still > STILL_SECONDS:
        return Verdict(False, f"it has not asked for the Lease for {still:.0f} s")
    if signs.oldest_look is not None and now - signs.oldest_look > LOOK_SECONDS:
        return Verdict(False, f"a look at one model has taken {now - signs.oldest_look:.0f} s")
    return Verdict(True, "works")
