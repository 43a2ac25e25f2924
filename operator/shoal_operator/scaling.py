"""Decide how many replicas a model wants, from its load over time."""

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from shoal_api.conditions import Reason
from shoal_api.modeldeployment import Spec
from shoal_api.scaling import Scaling
from shoal_operator import load as loads
from shoal_operator import schedules
from shoal_operator.load import Load
from shoal_operator.schedules import Floor


@dataclass(frozen=True, slots=True)
class Tuning:
    """What is the same for every model. docs/reference/autoscaling.md shows what other values would do."""

    stable_seconds: float = 30.0
    """Over so long the average of the load, too, must need fewer before any replica goes."""
    rise_seconds: float = 2.0
    """A load that was over the target for less buys no replica."""
    calm_seconds: float = 20.0
    """Nor for less than this where nobody waits and it is little over the target: noise buys what soon goes again."""
    far_over: float = 1.25
    """Times the target: more is not little."""
    flow_seconds: float = 5.0
    """So far back arrivals are counted to see what the running requests will become."""
    clear_seconds: float = 120.0
    """In so much time new replicas should work off what waits: requests that wait do not all need a place at once."""
    wake_seconds: float = 30.0
    """The same where nobody serves: those have waited for a whole start when it begins."""
    settle_seconds: float = 15.0
    """The delay before going down is never less: a load that grows swings before its averages tell of it."""
    lapse_seconds: float = 15.0
    """A load that is not known for less only stops the delay before going down; after longer it begins anew."""


Need = tuple[datetime, int]


@dataclass(frozen=True, slots=True)
class Memory:
    """What a decision leaves for the next one. Lost at a restart, which only makes the next steps down later."""

    busy_at: datetime | None = None
    """When the last request was seen."""
    needs: tuple[Need, ...] = ()
    """How many were needed, from each of these moments on; as far back as the delay before going down."""
    frozen_since: datetime | None = None
    """When the load of a gateway began to be missing that is still missing."""
    service_seconds: float | None = None
    """How long a request ran when that could last be told."""
    load_told: datetime | None = None
    """When the load in the status was last another one."""


@dataclass(frozen=True, slots=True)
class Decision:
    """How many, and why."""

    replicas: int
    reason: Reason
    because: str
    memory: Memory = Memory()
    follows_load: bool = False
    """The number is the load's, not somebody's; False also while the load is not known."""
    look_again_after: float | None = None
    """When to decide again even if nothing happens."""


_QUIET_SECONDS = 10.0
_ROUNDING = 1e-6
TUNING = Tuning()
FRESH = Memory()


def decide(
    spec: Spec, current: int, ready: int, load: Load, memory: Memory, now: datetime, tuning: Tuning = TUNING
) -> Decision:
    """As many as `spec.replicas` says, else as the load needs; `current` is how many were wanted so far."""
    told = Memory(load_told=memory.load_told)
    if spec.replicas is not None:
        return Decision(spec.replicas, Reason.FIXED_REPLICAS, f"spec.replicas is {spec.replicas}", told)
    if spec.scaling is None:
        return Decision(
            1, Reason.DEFAULT_REPLICAS, "neither spec.replicas nor spec.scaling is given: one replica", told
        )
    floor = schedules.floor(spec.scaling, now)
    scaling = spec.scaling
    if floor.because:
        scaling = scaling.model_copy(update={"min_replicas": floor.replicas})
    decision = _follow(scaling, floor, current, ready, load, memory, now, tuning)
    if floor.because and decision.reason is Reason.FOLLOWS_LOAD and decision.replicas == floor.replicas:
        decision = replace(decision, reason=Reason.SCHEDULED, because=floor.because)
    return replace(decision, look_again_after=_sooner(decision.look_again_after, floor.look_again_after))


def _follow(
    scaling: Scaling, floor: Floor, current: int, ready: int, load: Load, memory: Memory, now: datetime, tuning: Tuning
) -> Decision:
    memory = replace(memory, busy_at=_busy_at(load, memory, now))
    memory = _frozen_or_thawed(memory, load, now, tuning)
    within = _clamp(current, scaling)
    if within != current:
        memory = replace(memory, needs=())
        follows = bool(load.samples) and not load.silent
        if floor.because and within == floor.replicas:
            return Decision(within, Reason.SCHEDULED, floor.because, memory, follows)
        because = f"{current} lies outside minReplicas {scaling.min_replicas} and maxReplicas {scaling.max_replicas}"
        return Decision(within, Reason.BOUNDS_CHANGED, because, memory, follows)
    if not load.samples:
        return Decision(current, Reason.NO_LOAD_DATA, load.unknown_because, memory)
    seconds = loads.service_seconds(load.samples, now) or memory.service_seconds
    memory = replace(memory, service_seconds=seconds)
    decision = _rise(scaling, current, ready, load, memory, now, tuning)
    if decision is None:
        decision = _fall(scaling, current, ready, load, memory, now, tuning)
    return replace(decision, follows_load=not load.silent)


def _rise(
    scaling: Scaling, current: int, ready: int, load: Load, memory: Memory, now: datetime, tuning: Tuning
) -> Decision | None:
    """More, where the load needs them; None where it does not."""
    target = scaling.target_load
    seconds = _lasting(current, ready, load, target, now, tuning)
    if not loads.covers(load.samples, seconds, now):
        return None
    counted = loads.least(load.samples, seconds, now)
    needed = _needed(_work(load, seconds, ready, memory, now, tuning), target)
    wanted = _clamp(needed, scaling)
    if wanted <= current:
        return None
    memory = replace(memory, needs=_noted(memory.needs, wanted, _delay(scaling, tuning), now))
    sentence = f"load {counted} ({_parts(load)}) at target {target} needs {needed} replicas"
    if needed > wanted:
        sentence += f", maxReplicas is {scaling.max_replicas}"
    return Decision(wanted, Reason.WOKEN if current == 0 else Reason.LOAD_ROSE, sentence, memory)


def _lasting(current: int, ready: int, load: Load, target: int, now: datetime, tuning: Tuning) -> float:
    """How long a load must last to be believed: where nobody serves not at all, where somebody waits not for long."""
    if not ready:
        return 0.0
    waiting, _ = loads.least_of_each(load.samples, tuning.rise_seconds, now)
    least = loads.least(load.samples, tuning.rise_seconds, now)
    is_urgent = waiting > 0 or least >= tuning.far_over * target * current
    return tuning.rise_seconds if is_urgent else tuning.calm_seconds


def _fall(
    scaling: Scaling, current: int, ready: int, load: Load, memory: Memory, now: datetime, tuning: Tuning
) -> Decision:
    """Fewer, where that has been enough for long; else as many as now, and why."""
    if load.missing:
        return _frozen(current, load, memory, again=_until_it_lasts(scaling, current, load))
    floor = min(max(scaling.min_replicas, 1), current)
    left: float | None = None
    if current and not scaling.min_replicas and load.newest.load == 0 and memory.busy_at is not None:
        idle = (now - memory.busy_at).total_seconds()
        left = scaling.idle_seconds - idle
        if left <= 0:
            because = f"nobody asked for {scaling.idle_seconds} s (scaling.idleSeconds)"
            return Decision(0, Reason.IDLE, because, replace(memory, needs=()))
        if current == floor:
            return _until_idle(scaling, current, memory, left, idle >= _QUIET_SECONDS)
    decision = _fewer(scaling, floor, current, ready, load, memory, now, tuning)
    return replace(decision, look_again_after=_sooner(decision.look_again_after, left))


def _fewer(
    scaling: Scaling, floor: int, current: int, ready: int, load: Load, memory: Memory, now: datetime, tuning: Tuning
) -> Decision:
    """Fewer, and one at least, where averages and the delay say so."""
    target = scaling.target_load
    # A crowd of a few seconds that the replicas carry is no reason for more of them, and one to keep them.
    seconds = tuning.rise_seconds
    lately = _needed(_work(load, seconds, ready, memory, now, tuning), target)
    stable = _needed(_flow(load, tuning.stable_seconds, memory, now), target)
    wanted = max(_clamp(max(lately, stable), scaling), floor)
    is_known = loads.covers(load.samples, tuning.stable_seconds, now)
    memory = replace(memory, needs=_noted(memory.needs, wanted, _delay(scaling, tuning), now) if is_known else ())
    if wanted >= current or not is_known:
        then = now + timedelta(seconds=tuning.stable_seconds)
        lasting = _clamp(_needed(_work(load, seconds, ready, memory, then, tuning), target), scaling)
        decision = _steady(scaling, current, load, memory, again=1.0 if max(lasting, floor) < current else None)
    else:
        decision = _lower(scaling, current, wanted, load, memory, now, tuning)
    return replace(
        decision, look_again_after=_sooner(decision.look_again_after, _until_it_lasts(scaling, current, load))
    )


def _until_it_lasts(scaling: Scaling, current: int, load: Load) -> float | None:
    """When to look again at a load that may need more once it has lasted: long requests run for minutes, and meanwhile
    no gateway has news of them."""
    return 1.0 if _clamp(_needed(load.newest.load, scaling.target_load), scaling) > current else None


def _until_idle(scaling: Scaling, current: int, memory: Memory, left: float, is_quiet: bool) -> Decision:
    """One more, for who may still come. A pause between two requests is not worth another reason."""
    if not is_quiet:
        return Decision(current, Reason.FOLLOWS_LOAD, _span(scaling), memory, look_again_after=left)
    because = f"nobody asks; the last replica goes when that stays so for {scaling.idle_seconds} s"
    return Decision(current, Reason.HELD_UNTIL_IDLE, because, memory, look_again_after=left)


def _lower(
    scaling: Scaling, current: int, wanted: int, load: Load, memory: Memory, now: datetime, tuning: Tuning
) -> Decision:
    """Down to the most that was needed at any moment of the delay."""
    delay = _delay(scaling, tuning)
    needs = memory.needs
    most = max(need for _, need in needs)
    # Before the first of them nothing was noted: a restart, or a gateway that fell silent for long.
    left = delay - (now - needs[0 if most < current else 1][0]).total_seconds()
    if left > 0 or most >= current:
        because = f"fewer would do; they go when that stays so for {delay:g} s"
        return Decision(current, Reason.HELD_BY_DELAY, because, memory, look_again_after=max(left, 0.0))
    because = (
        f"load {load.newest.load} ({_parts(load)}) at target {scaling.target_load}: {most} were enough for "
        f"{delay:g} s (scaling.scaleDownDelaySeconds)"
    )
    return Decision(most, Reason.LOAD_FELL, because, memory, look_again_after=1.0 if most > wanted else None)


def _delay(scaling: Scaling, tuning: Tuning) -> float:
    return max(scaling.scale_down_delay_seconds, tuning.settle_seconds)


def _noted(needs: tuple[Need, ...], need: int, delay: float, now: datetime) -> tuple[Need, ...]:
    """One more; of those before, the ones that can still be the most of a delay."""
    kept = [(at, before) for at, before in needs if before > need]
    since = needs[len(kept)][0] if len(kept) < len(needs) else now
    kept.append((since, need))
    begin = now - timedelta(seconds=delay)
    while len(kept) > 1 and kept[1][0] <= begin:
        kept.pop(0)
    return tuple(kept)


def _frozen_or_thawed(memory: Memory, load: Load, now: datetime, tuning: Tuning) -> Memory:
    """While nobody knows the load the delay stands still, and goes on where it stood; after long it begins anew."""
    since = memory.frozen_since
    if load.missing or not load.samples:
        return memory if since is not None else replace(memory, frozen_since=now)
    if since is None:
        return memory
    gap = now - since
    if gap.total_seconds() > tuning.lapse_seconds:
        return replace(memory, frozen_since=None, needs=())
    return replace(memory, frozen_since=None, needs=tuple((min(at + gap, now), need) for at, need in memory.needs))


def _steady(scaling: Scaling, current: int, load: Load, memory: Memory, again: float | None) -> Decision:
    """As many as now. The sentence holds no number that changes from second to second: it stands in a condition."""
    newest = _needed(load.newest.load, scaling.target_load)
    reason, because = Reason.FOLLOWS_LOAD, _span(scaling)
    if newest > scaling.max_replicas:
        reason = Reason.AT_MAXIMUM
        because = f"the load needs more than maxReplicas {scaling.max_replicas} at target {scaling.target_load}"
    elif current > max(newest, scaling.min_replicas, 1):
        reason = Reason.HELD_BY_WINDOW
        because = f"fewer than {current} would do just now; the average of half a minute does not say so yet"
    elif current == 0:
        because = "nobody asks; the first request starts a replica"
    return Decision(current, reason, because, memory, look_again_after=again)


def _span(scaling: Scaling) -> str:
    span = f"between {scaling.min_replicas} and {scaling.max_replicas} replicas"
    return f"{span}, one for every {scaling.target_load} requests that wait or run"


def _frozen(current: int, load: Load, memory: Memory, again: float | None) -> Decision:
    if not load.silent:
        return Decision(current, Reason.FOLLOWS_LOAD, "a gateway has just come or is asked again", memory, True, 1.0)
    because = f"no replica goes: {'; '.join(load.silent)}"
    return Decision(current, Reason.GATEWAY_SILENT, because, memory, look_again_after=again)


def _busy_at(load: Load, memory: Memory, now: datetime) -> datetime:
    """When the last request was seen; where nobody can know, as late as it may have been."""
    if load.samples and load.newest.load:
        return now
    known = [at for at in (memory.busy_at, load.busy_at, load.known_since) if at is not None]
    if memory.busy_at is None and load.known_since is None:
        known += [now]
    return max(known)


def _work(load: Load, seconds: float, ready: int, memory: Memory, now: datetime, tuning: Tuning) -> float:
    """The load that must be carried: what runs, or will run as requests come now, and a share of what waits.

    Never more than the smallest load of the last seconds; as much where nobody knows how long a request runs.
    """
    counted = loads.least(load.samples, seconds, now)
    if memory.service_seconds is None:
        return counted
    waiting, running = loads.least_of_each(load.samples, seconds, now)
    flow = loads.rate(load.samples, tuning.flow_seconds, now) * memory.service_seconds
    clear = tuning.clear_seconds if ready else tuning.wake_seconds
    return min(counted, max(running, flow) + waiting * memory.service_seconds / clear)


def _flow(load: Load, seconds: float, memory: Memory, now: datetime) -> float:
    """What runs on the average when nobody has to wait; where that cannot be told, the average load."""
    if memory.service_seconds is None:
        return loads.mean(load.samples, seconds, now)
    return loads.rate(load.samples, seconds, now) * memory.service_seconds


def _needed(load: float, target: int) -> int:
    """So many replicas that none carries more than the target; one for the least work, too."""
    return max(math.ceil(load / target - _ROUNDING), int(load > 0))


def _sooner(*seconds: float | None) -> float | None:
    return min((each for each in seconds if each is not None), default=None)


def _clamp(replicas: int, scaling: Scaling) -> int:
    return min(max(replicas, scaling.min_replicas), scaling.max_replicas)


def _parts(load: Load) -> str:
    return f"{load.newest.waiting} wait, {load.newest.in_flight} run"
