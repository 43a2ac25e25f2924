"""One reconcile for every cause: gather, decide, carry out, tell. Right after a restart, harmless when run twice."""

from datetime import datetime
from typing import Protocol

from shoal_api.modeldeployment import ModelDeployment, RolloutStrategy
from shoal_api.naming import Grant
from shoal_operator import planning, rendering, rollout, scaling, status
from shoal_operator.observed import Observed
from shoal_operator.outcome import Outcome
from shoal_operator.planning import Plan
from shoal_operator.rollout import Desired


class World(Protocol):
    """Where replicas live: a cluster, or one machine."""

    @property
    def auto_strategy(self) -> RolloutStrategy:
        """What `rollout.strategy: Auto` means here."""

    @property
    def is_scheduled(self) -> bool:
        """Whether somebody below keeps count of room: then a replica may be made while another drains."""

    async def observe(self, md: ModelDeployment, revision: str, *, fresh: bool) -> Observed:
        """The facts about the model; `revision` is the one its manifest asks for.

        They may lag behind a little unless they are to be fresh: nothing is changed by facts that may be old.
        """

    async def carry_out(self, md: ModelDeployment, plan: Plan, now: datetime) -> None:
        """Make and drain what the plan says; returns before replicas are ready or gone."""


async def reconcile(md: ModelDeployment, grant: Grant, world: World, now: datetime) -> Outcome:
    """Bring the world one step closer to what the manifest asks for."""
    revision = rendering.revision(md)
    decision = scaling.decide(md.spec)
    strategy = md.spec.rollout.strategy
    desired = Desired(
        model=md.metadata.name,
        revision=revision,
        replicas=decision.replicas,
        surge=rollout.may_surge(strategy, world.auto_strategy),
        start_deadline_seconds=md.spec.rollout.start_deadline_seconds,
        makes_way=strategy is RolloutStrategy.AUTO and world.is_scheduled,
        is_scheduled=world.is_scheduled,
    )
    observed = await world.observe(md, revision, fresh=False)
    plan = planning.make(desired, observed, now)
    if plan.changes_something:
        observed = await world.observe(md, revision, fresh=True)
        plan = planning.make(desired, observed, now)
    if plan.changes_something:
        await world.carry_out(md, plan, now)
        observed = await world.observe(md, revision, fresh=False)
    return Outcome(desired, observed, plan, status.derive(md, desired, decision, observed, grant, now))
