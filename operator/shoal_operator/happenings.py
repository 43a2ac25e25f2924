"""Decide which Kubernetes Events tell a model's owner what has happened: each change once, with its reason."""

from dataclasses import dataclass

from shoal_api.conditions import Condition, ConditionType, Reason
from shoal_api.status import Status
from shoal_operator.planning import Plan, Step

_TOLD = (ConditionType.READY, ConditionType.PROGRESSING, ConditionType.NAMES_GRANTED)
_GOOD = frozenset(
    {
        *(Reason.REPLICAS_READY, Reason.SOME_REPLICAS_READY, Reason.AT_ZERO, Reason.STARTING),
        *(Reason.ROLLING_OUT, Reason.CANARY_WAITS, Reason.COMPLETE, Reason.ALL_GRANTED),
    }
)
_WORTH_EACH_SENTENCE = frozenset({Reason.CANNOT_START, Reason.INVALID_SPEC, Reason.NOT_BUILT, Reason.NAME_TAKEN})
"""With these a new sentence is news though the reason is the old one."""
_SILENT = frozenset({Reason.COMPLETE, Reason.ALL_GRANTED, Reason.STARTING, Reason.ROLLING_OUT})
"""What the steps have told already."""
_NOT_THE_LOADS = frozenset({Reason.FIXED_REPLICAS, Reason.DEFAULT_REPLICAS})
"""Who wrote the manifest knows."""
_ALARMING_STEPS = frozenset({Step.REPLACED, Step.RESTORED})


@dataclass(frozen=True, slots=True)
class Happening:
    """One Event."""

    is_warning: bool
    reason: str
    sentence: str


def of_plan(plan: Plan) -> list[Happening]:
    """What was just done."""
    if plan.step is Step.NOTHING or not (plan.create or plan.delete):
        return []
    made = [f"makes {new.name}" for new in plan.create]
    drained = [f"drains {name}" for name in plan.delete]
    done = ", ".join([*made, *drained])
    return [Happening(plan.step in _ALARMING_STEPS, plan.step, f"{plan.because}: {done}")]


def of_scale(before: Status, after: Status) -> list[Happening]:
    """Another number is wanted, because of the load."""
    scale = after.last_scale
    if scale is None or scale == before.last_scale or scale.reason in _NOT_THE_LOADS:
        return []
    return [Happening(False, scale.reason, f"{scale.from_replicas} → {scale.to_replicas} replicas: {scale.because}")]


def of_status(before: Status, after: Status) -> list[Happening]:
    """What is true now and was not before."""
    known = {c.type: c for c in before.conditions}
    told: dict[tuple[str, str], Happening] = {}
    for condition in after.conditions:
        if (
            condition.type in _TOLD
            and condition.reason not in _SILENT
            and _is_news(known.get(condition.type), condition)
        ):
            happening = Happening(condition.reason not in _GOOD, condition.reason, condition.message)
            told[happening.reason, happening.sentence] = happening
    return list(told.values())


def _is_news(before: Condition | None, now: Condition) -> bool:
    if before is None or (before.status, before.reason) != (now.status, now.reason):
        return True
    return now.reason in _WORTH_EACH_SENTENCE and before.message != now.message
