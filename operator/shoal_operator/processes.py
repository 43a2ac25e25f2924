"""The one-machine world: replicas as process trees, supervised here as kubelet supervises pods."""

import asyncio
import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from shoal_api import proof
from shoal_api.modeldeployment import ModelDeployment
from shoal_api.rollout import RolloutStrategy
from shoal_api.termination import LastWords
from shoal_operator import blueprint as blueprints
from shoal_operator import canary, machine, probe, status_report
from shoal_operator.blueprint import Blueprint, Place
from shoal_operator.observed import Observed, ReplicaState, Revision
from shoal_operator.planning import Plan
from shoal_operator.probe import Answer
from shoal_operator.run_directory import RunDirectory, write_secret
from shoal_operator.status_report import ReplicaReport
from shoal_operator.supervised import HOST, Start, Supervised
from shoal_operator.surging import Manner

_PROBE_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Means:
    """What this machine offers to replicas."""

    command: Callable[[Blueprint], Sequence[str] | LastWords]
    """The program that runs this blueprint, or why there is none."""
    environment: Mapping[str, str]
    ports: Sequence[int]
    gpus: tuple[str, ...]
    counts_resources: bool = True
    """False for the simulator, which needs neither GPU nor weights nor memory."""


@dataclass(slots=True)
class _Model:
    """What is kept about one model as long as it is in the files or drains."""

    key_file: Path
    token_file: Path
    blueprints: dict[str, Blueprint] = field(default_factory=dict)
    revisions: dict[str, Revision] = field(default_factory=dict)
    replicas: dict[str, Supervised] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """A probe that has not been read yet."""

    task: asyncio.Task[Answer | None]
    of_try: int


class Processes:
    """Replicas as processes below this one."""

    is_scheduled = False

    def __init__(self, run: RunDirectory, means: Means, chance: random.Random) -> None:
        self._run = run
        self._means = means
        self._chance = chance
        self._models: dict[str, _Model] = {}
        self._probes: dict[str, _UnderWay] = {}

    def manner(self, md: ModelDeployment, revision: str) -> Manner:  # noqa: ARG002  (the same for each)
        """Memory and GPUs for two engines at once are not a given, so `Auto` lets an old one go first."""
        return Manner(surge=md.spec.rollout.strategy is RolloutStrategy.SURGE)

    async def observe(self, md: ModelDeployment, revision: str, *, fresh: bool) -> Observed:  # noqa: ARG002  (it always is)
        model = self._model(md)
        if revision not in model.blueprints:
            model.blueprints[revision] = blueprints.of(md, revision)
        first = Revision(revision, canary=canary.begins(md, tuple(model.revisions.values())))
        known = model.revisions.pop(revision, first)
        if canary.is_over(md, revision):
            known = replace(known, canary=False)
        model.revisions[revision] = known  # the desired one stands last: it is the newest wish
        return Observed(
            replicas=tuple(r.facts() for r in model.replicas.values()),
            revisions=tuple(model.revisions.values()),
            obstacle=None if known.proven else self.obstacle(model.blueprints[revision]),
        )

    async def carry_out(self, md: ModelDeployment, plan: Plan, now: datetime) -> None:
        model = self._model(md)
        for name in plan.forget:
            model.revisions[name] = replace(model.revisions[name], fault=None)
        for given_up in plan.give_up:
            given = model.revisions[given_up.revision]
            model.revisions[given_up.revision] = replace(given, fault=given_up.words)
        for name in plan.delete:
            model.replicas[name].drain(now)
            if model.replicas[name].child is None:
                self._remove(model, name)
        for new in plan.create:
            blueprint = model.blueprints[new.revision]
            log = self._run.logs / f"{md.metadata.namespace}.{new.name}.log"
            model.replicas[new.name] = Supervised(new.name, str(uuid.uuid4()), blueprint, now, log)

    def obstacle(self, blueprint: Blueprint) -> LastWords | None:
        """What will not change by waiting: the program, the folder or the GPUs are not there."""
        command = self._means.command(blueprint)
        if isinstance(command, LastWords):
            return command
        if not self._means.counts_resources:
            return None
        path = blueprint.local_path
        if path is not None and not path.exists():
            sentence = f"{blueprint.model}: spec.model.source {path} does not exist: name the folder of a model"
            return LastWords(sentence, permanent=True)
        return blueprints.too_few_gpus(blueprint, len(self._means.gpus), len(self._means.gpus))

    def _memory_bytes(self, blueprint: Blueprint) -> int:
        """Roughly what one replica needs."""
        weights = machine.weights_bytes(blueprint.local_path) if blueprint.local_path else 0
        return blueprints.memory_bytes(blueprint, weights, self._means.environment)

    def tick(self, now: datetime) -> None:
        """Learn what happened since the last tick, and start what is due."""
        for model in self._models.values():
            for name, replica in list(model.replicas.items()):
                if replica.look(now):
                    self._ended(model, replica)
                if replica.is_draining and replica.child is None:
                    self._remove(model, name)
                elif replica.start_at is not None and now >= replica.start_at:
                    self._start(model, replica, now)
        self._probe_all(now)

    def pids(self) -> list[int]:
        """The processes that are known to be ours."""
        return [r.child.pid for r in self._all() if r.child is not None]

    def reports(self, model_id: str) -> list[ReplicaReport]:
        """One model's replicas for the status file."""
        model = self._models.get(model_id)
        replicas = model.replicas.values() if model else []
        return [status_report.of_replica(r.facts(), r.child.program_pid if r.child else None, r.log) for r in replicas]

    @property
    def is_settled(self) -> bool:
        """Whether nothing starts, fails or drains."""
        return all(r.state is ReplicaState.READY for r in self._all())

    @property
    def is_empty(self) -> bool:
        return not self._all()

    def longest_drain_seconds(self) -> float:
        return max((r.blueprint.drain_seconds for r in self._all()), default=0)

    def drain_all(self, now: datetime) -> None:
        """Tell every replica to go."""
        for replica in self._all():
            replica.drain(now)

    def end_all(self) -> None:
        """End every replica's tree at once."""
        for replica in self._all():
            if replica.child is not None:
                replica.child.end_now()

    async def close(self) -> None:
        """Wait for the probes that are out."""
        await asyncio.gather(*(under_way.task for under_way in self._probes.values()))
        self._probes.clear()

    def forget_model(self, model_id: str) -> None:
        """A model that is in no file any more and whose replicas are gone."""
        model = self._models.pop(model_id, None)
        if model is not None:
            model.key_file.unlink(missing_ok=True)
            model.token_file.unlink(missing_ok=True)

    def _all(self) -> list[Supervised]:
        return [replica for model in self._models.values() for replica in model.replicas.values()]

    def _model(self, md: ModelDeployment) -> _Model:
        model = self._models.get(md.id)
        if model is None:
            stem = f"{md.metadata.namespace}.{md.metadata.name}"
            model = _Model(self._run.keys / f"{stem}.key", self._run.keys / f"{stem}.ray")
            write_secret(model.key_file, proof.model_key(self._run.master_key, md.metadata.uid).hex())
            write_secret(model.token_file, uuid.uuid4().hex + uuid.uuid4().hex)
            self._models[md.id] = model
        return model

    def _start(self, model: _Model, replica: Supervised, now: datetime) -> None:
        blueprint = replica.blueprint
        command = self._means.command(blueprint)
        words = command if isinstance(command, LastWords) else self._no_room(replica)
        if isinstance(command, LastWords) or words is not None:
            replica.postpone(words or LastWords("", permanent=False), now)
            return
        environment = blueprints.environment(blueprint, self._means.environment, self._run.python_path, replica.gpus)
        try:
            place = Place(
                replica=replica.name,
                uid=replica.uid,
                port=self._free_port(),
                directory=self._run.scratch(),
                model_key_file=model.key_file,
                ray_token_file=model.token_file,
            )
            replica.start(Start(command, place, environment), now)
        except OSError as error:  # no room on a disk, too many processes: it may be so for a while, and others serve
            replica.postpone(LastWords(f"the replica program cannot be started ({error})", permanent=False), now)

    def _no_room(self, replica: Supervised) -> LastWords | None:
        """Why it cannot be started just now; takes the GPUs where it can."""
        if not self._means.counts_resources:
            return None
        blueprint = replica.blueprint
        if len(replica.gpus) < blueprint.gpus:
            taken = {gpu for other in self._all() for gpu in other.gpus}
            free = [gpu for gpu in self._means.gpus if gpu not in taken]
            words = blueprints.too_few_gpus(blueprint, len(free), len(self._means.gpus))
            if words is not None:
                return words
            replica.gpus = tuple(free[: blueprint.gpus])
        # What the others that load have not taken yet is theirs: two that fit one by one may not fit together.
        promised = sum(
            self._memory_bytes(r.blueprint)
            for r in self._all()
            if r is not replica and r.child is not None and r.state is ReplicaState.STARTING
        )
        available = machine.memory_available_bytes() - promised
        return blueprints.too_little_memory(blueprint, self._memory_bytes(blueprint), max(0, available))

    def _free_port(self) -> int:
        taken = {r.place.port for r in self._all() if r.place is not None}
        return machine.free_port(HOST, (port for port in self._means.ports if port not in taken), self._chance)

    def _ended(self, model: _Model, replica: Supervised) -> None:
        words = replica.last_words
        if not replica.is_draining and words is not None and words.permanent:
            name = replica.blueprint.revision
            model.revisions[name] = replace(model.revisions[name], fault=words)

    def _remove(self, model: _Model, name: str) -> None:
        model.replicas.pop(name).forget()

    def _probe_all(self, now: datetime) -> None:
        """Take what the probes found and send new ones; one that hangs keeps nothing else waiting."""
        probed = {r.uid: (m, r) for m in self._models.values() for r in m.replicas.values() if r.place and r.child}
        for uid, under_way in list(self._probes.items()):
            if under_way.task.done():
                del self._probes[uid]
                if uid in probed and probed[uid][1].tries == under_way.of_try:
                    self._answered(*probed[uid], under_way.task.result(), now)
        for uid, (_, replica) in probed.items():
            if uid not in self._probes and replica.place is not None:
                get = asyncio.to_thread(probe.get, HOST, replica.place.port, "/health", _PROBE_TIMEOUT_SECONDS)
                self._probes[uid] = _UnderWay(asyncio.create_task(get), replica.tries)

    @staticmethod
    def _answered(model: _Model, replica: Supervised, answer: Answer | None, now: datetime) -> None:
        replica.answered(answer is not None and answer.status == 200, now)
        if replica.state is ReplicaState.READY:
            name = replica.blueprint.revision
            model.revisions[name] = replace(model.revisions[name], proven=True)
