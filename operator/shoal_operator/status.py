"""Derive what the user is told: counts and conditions."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from shoal_api.conditions import Condition, ConditionType, Reason
from shoal_api.modeldeployment import ModelDeployment
from shoal_api.naming import Grant
from shoal_api.replica_config import Stage
from shoal_api.status import LastScale, ObservedLoad, Status
from shoal_operator import canary, rollout
from shoal_operator.load import Load
from shoal_operator.observed import NOT_ANSWERING, Observed, Replica, ReplicaState
from shoal_operator.rollout import Desired
from shoal_operator.scaling import Decision, Memory

LOAD_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What one condition says, without its times."""

    status: Literal["True", "False", "Unknown"]
    reason: Reason
    message: str


def derive(
    md: ModelDeployment,
    desired: Desired,
    decision: Decision,
    observed: Observed,
    grant: Grant,
    now: datetime,
    load: ObservedLoad | None = None,
) -> Status:
    """The status of an accepted model; `md.status` is the previous one, whose load stands where none is given."""
    now = _second(now)
    findings = {
        ConditionType.READY: _ready(desired, observed),
        ConditionType.ACTIVE: _active(decision),
        ConditionType.PROGRESSING: _progressing(md, desired, observed),
        ConditionType.SCALING_ACTIVE: _scaling_active(decision),
        ConditionType.NAMES_GRANTED: _names_granted(grant),
    }
    before = md.status
    last_scale = before.last_scale
    if before.desired_replicas != decision.replicas:
        last_scale = LastScale(
            time=now,
            from_replicas=before.desired_replicas,
            to_replicas=decision.replicas,
            reason=decision.reason,
            because=decision.because,
        )
    return Status(
        observed_generation=md.metadata.generation,
        desired_replicas=decision.replicas,
        replicas=len(observed.replicas),
        ready_replicas=len(observed.ready),
        revision=desired.revision,
        selector=before.selector,
        names=list(grant.names),
        last_scale=last_scale,
        load=load or before.load,
        conditions=_conditions(before, md.metadata.generation, findings, now),
    )


@dataclass(frozen=True, slots=True)
class Told:
    """The load for the status."""

    load: ObservedLoad
    memory: Memory
    look_again_after: float | None = None
    """When it may be told what is not told yet."""


def coarse_load(md: ModelDeployment, load: Load, memory: Memory, now: datetime) -> Told:
    """The load for the status, another one at most every LOAD_SECONDS: each costs a write that all watchers get."""
    if not load.samples:
        return Told(md.status.load, memory)
    newest = ObservedLoad(waiting=load.newest.waiting, in_flight=load.newest.in_flight)
    if newest == md.status.load:
        return Told(newest, memory)
    left = LOAD_SECONDS - (now - memory.load_told).total_seconds() if memory.load_told else 0.0
    return Told(md.status.load, memory, left) if left > 0 else Told(newest, replace(memory, load_told=now))


def refused(before: Status, generation: int, sentence: str, reason: Reason, now: datetime) -> Status:
    """The status of a model whose manifest cannot be carried out; what ran before goes on and keeps its counts."""
    now = _second(now)
    findings = {
        ConditionType.READY: Finding("False", reason, sentence),
        ConditionType.PROGRESSING: Finding("False", reason, sentence),
    }
    others = [c for c in before.conditions if c.type not in findings]
    conditions = [*_conditions(before, generation, findings, now), *others]
    return before.model_copy(update={"observed_generation": generation, "conditions": conditions})


def condition(status: Status, kind: ConditionType) -> Condition | None:
    """The condition of this type, where the status has it."""
    return next((c for c in status.conditions if c.type is kind), None)


def _ready(desired: Desired, observed: Observed) -> Finding:
    ready = len(observed.ready)
    against = rollout.obstacle(desired, observed)
    if desired.replicas == 0:
        return Finding("True", Reason.AT_ZERO, "no replica is wanted")
    if ready and against and not any(r.revision == desired.revision for r in observed.ready):
        message = f"{ready} of an older revision answer; the revision of the manifest cannot start: {against.sentence}"
        return Finding("True", Reason.SOME_REPLICAS_READY, message)
    if ready >= desired.replicas:
        return Finding("True", Reason.REPLICAS_READY, f"{ready} of {desired.replicas} replicas answer")
    reason, message = _missing(desired, observed)
    if ready:
        return Finding("True", Reason.SOME_REPLICAS_READY, f"{ready} of {desired.replicas} replicas answer; {message}")
    return Finding("False", reason, message)


def _missing(desired: Desired, observed: Observed) -> tuple[Reason, str]:
    """Why a replica that is wanted does not answer."""
    against = rollout.obstacle(desired, observed)
    on_their_way = [r for r in observed.staying if r.state is ReplicaState.STARTING]
    failed = [r for r in observed.staying if r.state is ReplicaState.FAILED]
    if against and not on_their_way and not rollout.target(desired, observed).creatable:
        return Reason.CANNOT_START, against.sentence
    if failed:
        return Reason.RESTARTING, _restarting(failed[0])
    if against:
        restored = rollout.target(desired, observed).revision != desired.revision
        why = "an older revision is restored; that of the manifest cannot start" if restored else "no other can be made"
        return Reason.STARTING, f"{why}: {against.sentence}"
    hindered = [r.hindrance for r in on_their_way if r.hindrance] or ([observed.held] if observed.held else [])
    if hindered:
        return hindered[0].reason, hindered[0].sentence
    lost = [r for r in on_their_way if r.stage == NOT_ANSWERING]
    if lost:
        return Reason.RESTARTING, f"{lost[0].name} was ready and does not answer any more"
    again = [r for r in on_their_way if r.last_words]
    if again:
        return Reason.RESTARTING, _restarting(again[0])
    stage = next((f", {r.name} is at {r.stage}" for r in on_their_way if r.stage not in ("", Stage.READY)), "")
    return Reason.STARTING, f"{len(on_their_way)} starting{stage}"


def _restarting(replica: Replica) -> str:
    said = replica.last_words.sentence if replica.last_words else "it ended without a word"
    return f"{replica.name} is started again ({replica.restarts} so far): {said}"


def _active(decision: Decision) -> Finding:
    if decision.replicas == 0:
        return Finding("False", Reason.AT_ZERO, decision.because)
    return Finding("True", decision.reason, decision.because)


def _scaling_active(decision: Decision) -> Finding:
    return Finding("True" if decision.follows_load else "False", decision.reason, decision.because)


def _progressing(md: ModelDeployment, desired: Desired, observed: Observed) -> Finding:
    target = rollout.target(desired, observed)
    against = rollout.obstacle(desired, observed)
    settled = len(observed.ready) == len(observed.replicas) == desired.replicas
    if against and desired.replicas and (not target.creatable or settled):
        return Finding("False", Reason.CANNOT_START, against.sentence)
    outdated = [r for r in observed.replicas if r.revision != target.revision]
    if canary.is_waited_for(desired, observed) and canary.is_up(desired, observed):
        canaries, others = canary.counts(desired)
        message = (
            f"{canaries} of revision {desired.revision} and {others} of an older one answer; the rest follows after "
            f"`shoal rollout promote {md.metadata.name} -n {md.metadata.namespace}`"
        )
        return Finding("True", Reason.CANARY_WAITS, message)
    if outdated and desired.replicas:
        message = f"{_replicas(len(outdated))} of another revision than {target.revision}"
        waits = _waits_for(desired, observed, target.revision)
        return Finding("True", Reason.ROLLING_OUT, f"{message}: {waits}" if waits else message)
    if settled:
        return Finding("False", Reason.COMPLETE, f"{_replicas(desired.replicas)} of revision {target.revision}")
    if len(observed.ready) < desired.replicas:
        reason, message = _missing(desired, observed)
        return Finding("True", reason, message)
    return Finding("True", Reason.ROLLING_OUT, f"{_replicas(len(observed.replicas) - desired.replicas)} to drain")


def _replicas(count: int) -> str:
    return "1 replica" if count == 1 else f"{count} replicas"


def _waits_for(desired: Desired, observed: Observed, revision: str) -> str:
    """What a rollout waits for just now."""
    current = [r for r in observed.staying if r.revision == revision and r.state is not ReplicaState.READY]
    failed = next((r for r in current if r.state is ReplicaState.FAILED), None)
    if failed is not None:
        return _restarting(failed)
    for replica in current:
        if replica.hindrance is not None:
            return replica.hindrance.sentence
        stage = f" ({replica.stage})" if replica.stage else ""
        return f"{replica.name} starts{stage}"
    draining = observed.in_state(ReplicaState.DRAINING)
    if draining:
        return f"{draining[0].name} finishes its requests"
    return observed.surge_waits or observed.surge_refused or desired.first_goes_because


def _names_granted(grant: Grant) -> Finding:
    if not grant.taken:
        return Finding("True", Reason.ALL_GRANTED, ", ".join(grant.names))
    taken = "; ".join(f"'{name}' belongs to {holder}" for name, holder in grant.taken)
    return Finding("False", Reason.NAME_TAKEN, f"{taken}: choose another in spec.model.names")


def _conditions(
    before: Status, generation: int, findings: dict[ConditionType, Finding], now: datetime
) -> list[Condition]:
    known = {c.type: c for c in before.conditions}
    return [
        Condition(
            type=kind,
            status=finding.status,
            reason=finding.reason,
            message=finding.message[:32_768],
            observed_generation=generation,
            last_transition_time=_since(known.get(kind), finding, now),
        )
        for kind, finding in findings.items()
    ]


def _second(now: datetime) -> datetime:
    """As Kubernetes writes times."""
    return now.replace(microsecond=0)


def _since(before: Condition | None, finding: Finding, now: datetime) -> datetime:
    """A time moves only when the status flips: reasons and messages may change within one."""
    return before.last_transition_time if before and before.status == finding.status else now
