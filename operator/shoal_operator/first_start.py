"""Decide whether the first start has failed as a whole: then `shoal up` ends instead of trying for ever."""

from collections.abc import Iterable

from shoal_api.conditions import ConditionType, Reason
from shoal_operator import status as statuses
from shoal_operator.observed import ReplicaState
from shoal_operator.outcome import Outcome

TRIES = 3
"""So often a model is started before its first start counts as failed."""


def failure(outcomes: Iterable[tuple[str, Outcome]]) -> list[str]:
    """One sentence per model where none of them can be started; empty while there is hope."""
    sentences: list[str] = []
    for model, outcome in outcomes:
        sentence = _hopeless(outcome)
        if sentence is None:
            return []
        sentences.append(sentence if sentence.startswith(model) else f"{model}: {sentence}")
    return sentences


def _hopeless(outcome: Outcome) -> str | None:
    ready = statuses.condition(outcome.status, ConditionType.READY)
    if ready is not None and ready.reason == Reason.CANNOT_START:
        return ready.message
    tired = [
        r.last_words.sentence
        for r in outcome.observed.replicas
        if r.state is ReplicaState.FAILED and r.restarts + 1 >= TRIES and r.last_words is not None
    ]
    return tired[0] if tired else None
