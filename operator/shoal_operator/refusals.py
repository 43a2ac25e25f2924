"""What the API server, or a look beforehand, has refused of a model: kept for a pause that doubles."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from shoal_api.termination import LastWords
from shoal_operator import restarts

LOOK_AGAIN_SECONDS = 30.0
"""What only looking has found is looked at again at least so often: that costs little."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """No replica of this revision until then."""

    revision: str
    words: LastWords
    until: datetime
    times: int
    pods: int | None = None
    """Where a quota refused: how many pods the model had then; one fewer may change it."""


class Refusals:
    """At most one of each revision of a model."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, Refusal]] = {}

    def note(self, uid: str, revision: str, sentence: str, now: datetime, *, pods: int | None = None) -> None:
        """A pod was refused."""
        self._keep(uid, revision, sentence, now, None, pods)

    def foresee(self, uid: str, revision: str, sentence: str, now: datetime) -> None:
        """A pod would be."""
        self._keep(uid, revision, sentence, now, now + timedelta(seconds=LOOK_AGAIN_SECONDS), None)

    def _keep(
        self, uid: str, revision: str, sentence: str, now: datetime, latest: datetime | None, pods: int | None
    ) -> None:
        known = {each.revision: each for each in self._known.get(uid, {}).values() if not _is_long_over(each, now)}
        self._known[uid] = known
        before = known.get(revision)
        again = restarts.after(before.times if before else 0, now, now)
        until = again.at if latest is None else min(again.at, latest)
        known[revision] = Refusal(revision, LastWords(sentence, permanent=False), until, again.bad_runs, pods)

    def of(self, uid: str, now: datetime) -> list[Refusal]:
        """What is in force."""
        return [refusal for refusal in self._known.get(uid, {}).values() if now < refusal.until]

    def was_made(self, uid: str, revision: str) -> None:
        """This revision is refused no more."""
        self._known.get(uid, {}).pop(revision, None)

    def forget(self, uid: str) -> None:
        self._known.pop(uid, None)


def _is_long_over(refusal: Refusal, now: datetime) -> bool:
    return (now - refusal.until).total_seconds() >= restarts.LONGEST_PAUSE_SECONDS
