"""One reconcile for every cause: gather, decide, carry out, tell. Right after a restart, harmless when run twice."""

from dataclasses import replace
from datetime import datetime
from typing import Protocol

from shoal_api.modeldeployment import ModelDeployment
from shoal_api.naming import Grant
from shoal_operator import planning, rendering, scaling, status
from shoal_operator.load import UNKNOWN, Load
from shoal_operator.observed import Observed
from shoal_operator.outcome import Outcome
from shoal_operator.planning import Plan
from shoal_operator.rollout import Desired
from shoal_operator.scaling import FRESH, Memory
from shoal_operator.surging import Manner


class World(Protocol):
    """Where replicas live: a cluster, or one machine."""

    def manner(self, md: ModelDeployment, revision: str) -> Manner:
        """How replicas of this revision may replace others here; known after a look."""

    @property
    def is_scheduled(self) -> bool:
        """Whether somebody below keeps count of room: then a replica may be made while another drains."""

    async def observe(self, md: ModelDeployment, revision: str, *, fresh: bool) -> Observed:
        """The facts about the model; `revision` is the one its manifest asks for.

        They may lag behind a little unless they are to be fresh: nothing is changed by facts that may be old.
        """

    async def carry_out(self, md: ModelDeployment, plan: Plan, now: datetime) -> None:
        """Make and drain what the plan says; returns before replicas are ready or gone."""


async def reconcile(
    md: ModelDeployment, grant: Grant, world: World, now: datetime, load: Load = UNKNOWN, memory: Memory = FRESH
) -> Outcome:
    """Bring the world one step closer to what the manifest asks for; `memory` is what the last outcome held."""
    revision = rendering.revision(md)
    observed = await world.observe(md, revision, fresh=False)
    decision = scaling.decide(md.spec, _wanted_so_far(md, observed), len(observed.ready), load, memory, now)
    manner, canary = world.manner(md, revision), md.spec.rollout.canary
    desired = Desired(
        model=md.metadata.name,
        revision=revision,
        replicas=decision.replicas,
        surge=manner.surge,
        start_deadline_seconds=md.spec.rollout.start_deadline_seconds,
        makes_way=manner.makes_way,
        is_scheduled=world.is_scheduled,
        canaries=canary.replicas if canary else 0,
        first_goes_because=manner.because,
        asks_for_none=md.spec.replicas == 0,
    )
    plan = planning.make(desired, observed, now, load.in_flight_by_replica)
    if plan.changes_something:
        observed = await world.observe(md, revision, fresh=True)
        plan = planning.make(desired, observed, now, load.in_flight_by_replica)
    told = status.coarse_load(md, load, decision.memory, now)
    again = _sooner(plan.look_again_after, decision.look_again_after, told.look_again_after)
    if plan.changes_something:
        await world.carry_out(md, plan, now)
        observed = await world.observe(md, revision, fresh=False)
        # What was refused is refused for a while; where it was so before, nothing else changes.
        again = _sooner(again, planning.look_again(desired, observed, now))
    plan = replace(plan, look_again_after=again)
    derived = status.derive(md, desired, decision, observed, grant, now, told.load)
    return Outcome(desired, observed, plan, derived, decision, told.memory)


def _wanted_so_far(md: ModelDeployment, observed: Observed) -> int:
    """The status says it, also after a restart; of one that was never written, what is there."""
    return md.status.desired_replicas if md.status.observed_generation else len(observed.staying)


def _sooner(*seconds: float | None) -> float | None:
    return min((s for s in seconds if s is not None), default=None)
