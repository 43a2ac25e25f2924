"""How fast the cluster reacted: from a held request to the decision, the pod, its readiness and the first token."""

import os
import re
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from storykit.installation import NAMESPACE, Installation
from storykit.ledger_client import Entry
from storykit.models import Models

_DECISION = re.compile(r'^(\S+) .* model=(\S+) reason=(\S+) because="(.*)"$')
_SHOWN = (
    '{.metadata.name} {.status.conditions[?(@.type=="Ready")].status} {.metadata.deletionTimestamp}'
    r'{"\n"}'
)
_LAST_EVENT_SECONDS = 5
_LOG_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Decided:
    """One line of the operator's log about a model."""

    at: float
    """Unix time, seconds; so are all times here."""
    reason: str
    because: str


def decisions(shoal: Installation, story: Models, name: str) -> list[Decided]:
    """What the operators that run now decided about this model and did for it, oldest first."""
    found = []
    for pod in shoal.pods("operator"):
        words = ["logs", pod["metadata"]["name"], "-n", NAMESPACE, "--timestamps", "--since=15m"]
        for line in shoal.cluster.kubectl(*words).splitlines():
            match = _DECISION.match(line)
            if match and match.group(2) == f"{story.namespace}/{name}":
                found.append(Decided(_unix(match.group(1)), match.group(3), match.group(4)))
    return sorted(found, key=lambda each: each.at)


def wait_decided(shoal: Installation, story: Models, name: str, reason: str, count: int = 1) -> list[Decided]:
    """The decisions with this reason, as soon as there are so many: a log may tell of them after the cluster does."""
    found: list[Decided] = []

    def is_so() -> bool:
        found[:] = [each for each in decisions(shoal, story, name) if each.reason == reason]
        return len(found) >= count

    story.until(is_so, f"the operator's log has {count} × {reason} of {name}", _LOG_SECONDS, name)
    return found


@dataclass(slots=True)
class PodTimes:
    """When each pod of a model was first seen, ready, told to go, as a watch saw it; by the pod's name."""

    made: dict[str, float] = field(default_factory=dict)
    ready: dict[str, float] = field(default_factory=dict)
    leaving: dict[str, float] = field(default_factory=dict)

    def take(self, line: str, now: float) -> None:
        """One line of the watch."""
        name, *rest = line.split()
        self.made.setdefault(name, now)
        if rest[:1] == ["True"]:
            self.ready.setdefault(name, now)
        if rest and rest[-1][:1].isdigit():
            self.leaving.setdefault(name, now)


@contextmanager
def watching(story: Models, name: str) -> Iterator[PodTimes]:
    """The pods of a model from now on; those that are there already count as made now."""
    words = ["kubectl", "get", "pods", "-n", story.namespace, "-l", f"shoal.dev/model={name}", "--watch"]
    times = PodTimes()
    with subprocess.Popen(
        [*story.cluster.entry, *words, "-o", f"jsonpath={_SHOWN}"],
        env={**os.environ, **story.cluster.environment},
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    ) as watch:
        reader = threading.Thread(target=_read, args=(watch, times))
        reader.start()
        try:
            yield times
        finally:
            watch.terminate()
            reader.join(_LAST_EVENT_SECONDS)


def _read(watch: subprocess.Popen[str], times: PodTimes) -> None:
    assert watch.stdout is not None
    for line in watch.stdout:
        if line.strip():
            times.take(line, time.time())


@dataclass(frozen=True, slots=True)
class Reaction:
    """The moments of one reaction, in the order in which they should come; None: not seen."""

    held: float
    decided: float | None
    made: float | None
    ready: float | None
    first_token: float | None

    def __str__(self) -> str:
        steps = {
            "decided": self.decided,
            "pod made": self.made,
            "ready": self.ready,
            "first token": self.first_token,
        }
        told = [f"{step} {at - self.held:+.2f} s" if at is not None else f"{step} –" for step, at in steps.items()]
        return f"held → {' → '.join(told)}"


def reaction(entries: Iterable[Entry], decided: Iterable[Decided], pods: PodTimes, since: float) -> Reaction:
    """To the first request that began at `since` or later: what came first of everything after it."""
    asked = [entry for entry in entries if entry.began >= since]
    held = min(entry.began for entry in asked)

    def next_of(times: Iterable[float]) -> float | None:
        return min((at for at in times if at >= held), default=None)

    return Reaction(
        held,
        next_of(each.at for each in decided),
        next_of(pods.made.values()),
        next_of(pods.ready.values()),
        next_of(entry.first for entry in asked if entry.first),
    )


def lost(entries: Iterable[Entry]) -> int:
    """Requests that did not end well."""
    return sum(entry.outcome != "ok" for entry in entries)


def _unix(moment: str) -> float:
    """kubelet's own timestamp before a line of a log."""
    return datetime.fromisoformat(moment).timestamp()
