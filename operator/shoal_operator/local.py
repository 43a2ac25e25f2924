"""`shoal up`: the operator's reconcile over the models in the files, replicas and gateway as processes, no cluster."""

import asyncio
import signal
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from shoal_api import naming, proof
from shoal_api.conditions import Reason
from shoal_api.modeldeployment import ModelDeployment
from shoal_api.naming import Grant
from shoal_api.routes import RouteDocument
from shoal_api.status import Status
from shoal_operator import (
    child,
    first_start,
    greeting,
    machine,
    manifests,
    one_machine,
    reconciling,
    routing,
    run_directory,
    status_file,
)
from shoal_operator.announcing import Announcer
from shoal_operator.first_start import TRIES
from shoal_operator.gateway_process import GatewayProcess
from shoal_operator.load_source import Loads
from shoal_operator.manifests import Refused
from shoal_operator.outcome import Outcome
from shoal_operator.processes import Processes
from shoal_operator.run_directory import RunDirectory
from shoal_operator.scaling import FRESH
from shoal_operator.settings import Settings
from shoal_operator.status_report import GatewayReport, ModelReport, UpReport

BUSY_TICK_SECONDS = 0.2
RESTING_TICK_SECONDS = 0.5
_MARGIN_SECONDS = 20.0


class CannotServe(RuntimeError):
    """Nothing of the first start could be started; one sentence per line."""


class Local:
    """One `shoal up`, from its first tick to its last process."""

    def __init__(
        self,
        settings: Settings,
        run: RunDirectory,
        world: Processes,
        gateway: GatewayProcess,
        *,
        pid: int,
        clock: Callable[[], datetime],
        say: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._run = run
        self._world = world
        self._gateway = gateway
        self._pid = pid
        self._clock = clock
        self._say = say
        self._started = clock()
        self._models: dict[str, ModelDeployment] = {}
        self._leaving: dict[str, ModelDeployment] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._greeted: set[str] = set()
        self._has_worked = False
        """Whether any model ever answered: then the first start is over, whatever becomes of the files."""
        self._said_ready = False
        self._manifest_fault = ""
        self._announcer = Announcer()
        self._news: list[str] = []
        """Said once the files tell the same: who reads a sentence and looks there finds it true."""
        self._written: dict[str, str] = {}
        self._not_published = ""
        self._wake = asyncio.Event()
        token = proof.load_token(run.master_key)
        self._loads = Loads(gateway.addresses, token, clock, lambda _models: self._wake.set())
        self._child_ended = False
        self._stop_asked = 0

    async def serve(self, models: list[ModelDeployment], watch: manifests.Watch) -> None:
        """Serve until told to stop. Raises CannotServe where the first start fails; no process is left in any case."""
        loop = asyncio.get_running_loop()
        stop = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup asks us to outlive the terminal
            stop.append(signal.SIGHUP)
        for number in stop:
            loop.add_signal_handler(number, self._on_stop)
        loop.add_signal_handler(signal.SIGCHLD, self._on_child)
        hearing = asyncio.create_task(self._loads.run())
        try:
            self._admit(models)
            await self._run_until_stopped(watch, hearing)
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)
            self._say_news()
            await self._shut_down()
            for number in (*stop, signal.SIGCHLD):
                loop.remove_signal_handler(number)

    def _on_stop(self) -> None:
        self._stop_asked += 1
        self._wake.set()

    def _on_child(self) -> None:
        self._child_ended = True
        self._wake.set()

    async def _run_until_stopped(self, watch: manifests.Watch, hearing: "asyncio.Task[None]") -> None:
        while not self._stop_asked:
            if hearing.done():
                await hearing  # it never ends by itself: this raises what ended it
            if watch.has_changed():
                self._read_again()
            busy = await self._tick()
            failure = self._failure()
            if failure:
                raise CannotServe("\n".join(failure))
            await self._rest(BUSY_TICK_SECONDS if busy else RESTING_TICK_SECONDS)

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def _tick(self) -> bool:
        """One look at everything; whether the next should come soon."""
        now = self._clock()
        self._gateway.tick(now)
        self._world.tick(now)
        self._end_strays()
        changed = [await self._reconcile(md, now) for md in (*self._models.values(), *self._leaving.values())]
        self._drop_those_gone()
        self._publish()
        for md in self._models.values():
            self._greet(md)
        self._say_when_all_are_ready()
        self._say_news()
        return any(changed) or not self._gateway.ready or not self._world.is_settled

    def _end_strays(self) -> None:
        if not self._child_ended:
            return
        self._child_ended = False
        gateway = [self._gateway.pid] if self._gateway.pid else []
        strays = child.end_strays([*self._world.pids(), *gateway])
        if strays:
            self._tell(f'reason=StraysEnded because="{len(strays)} processes had lost their replica"')

    async def _reconcile(self, md: ModelDeployment, now: datetime) -> bool:
        grant = naming.grant(self._models.values()).get(md.id, Grant((), ()))
        before = self._outcomes.get(md.id)
        memory = before.memory if before else FRESH
        outcome = await reconciling.reconcile(md, grant, self._world, now, self._loads.of(md.id, now), memory)
        for line in self._announcer.lines(md, outcome, now):
            self._tell(line)
        where = self._models if md.id in self._models else self._leaving
        where[md.id] = md.model_copy(update={"status": outcome.status})
        self._outcomes[md.id] = outcome
        return outcome.plan.changes_something

    def _drop_those_gone(self) -> None:
        for model_id in [i for i in self._leaving if not self._outcomes[i].observed.replicas]:
            del self._leaving[model_id], self._outcomes[model_id]
            self._world.forget_model(model_id)
            self._loads.forget(model_id)

    def _failure(self) -> list[str]:
        """Why the first start has failed; empty once something worked."""
        if self._has_worked:
            return []
        if not self._gateway.ready and self._gateway.starts >= TRIES and self._gateway.pid is None:
            return [self._gateway.last_words]
        if any(o.desired.replicas == 0 for o in self._outcomes.values()):
            return []
        return first_start.failure((i, self._outcomes[i]) for i in self._models)

    def _read_again(self) -> None:
        """Carry out an edit of the files; a broken one is told and the last good one goes on."""
        try:
            models = manifests.read(self._settings.manifests)
        except Refused as refused:
            self._manifest_fault = "; ".join(refused.sentences)
            for sentence in refused.sentences:
                self._tell(f'reason={Reason.INVALID_SPEC} because="{sentence}; what was served before goes on"')
            return
        self._manifest_fault = ""
        self._admit(models)

    def _admit(self, models: list[ModelDeployment]) -> None:
        """Make these the models that are served, with what an API server would have added to each."""
        wanted = {md.id for md in models}
        for model_id in [i for i in self._models if i not in wanted]:
            leaving = self._models.pop(model_id)
            self._tell(f'model={model_id} reason=Removed because="it is in no file any more"')
            spec = leaving.spec.model_copy(update={"replicas": 0})
            self._leaving[model_id] = leaving.model_copy(update={"spec": spec})
            self._greeted.discard(model_id)
        for md in models:
            known = self._models.get(md.id) or self._leaving.pop(md.id, None)
            if known is None or known.spec != md.spec:
                for notice in one_machine.notices(md):
                    self._tell(f"notice: {md.id}: {notice.path} {notice.sentence}")
            self._models[md.id] = self._complete(md, known)

    def _complete(self, md: ModelDeployment, known: ModelDeployment | None) -> ModelDeployment:
        if known is None:
            added = {
                "uid": md.metadata.uid or str(uuid.uuid4()),
                "creation_timestamp": md.metadata.creation_timestamp or self._clock(),
                "generation": 1,
            }
            return md.model_copy(update={"metadata": md.metadata.model_copy(update=added), "status": Status()})
        generation = known.metadata.generation + (known.spec != md.spec)
        metadata = known.metadata.model_copy(update={"generation": generation})
        return md.model_copy(update={"metadata": metadata, "status": known.status})

    def _greet(self, md: ModelDeployment) -> None:
        outcome = self._outcomes[md.id]
        at_zero = outcome.desired.replicas == 0 and md.spec.replicas is None
        if md.id in self._greeted or not self._gateway.ready or not (outcome.observed.ready or at_zero):
            return
        self._greeted.add(md.id)
        self._has_worked = True
        names = outcome.status.names
        url = f"http://{self._settings.address}"
        when = ", and starts when somebody asks" if at_zero else ""
        self._news.append(f"\n{md.metadata.name} answers on {url}/v1 as: {', '.join(names)}{when}")
        path = md.spec.model.source.removeprefix("file://")
        kind = "chat" if self._settings.simulator else machine.model_kind(Path(path))
        if names:
            self._news.append(f"  {greeting.curl(url, names[0], kind)}\n")

    def _say_when_all_are_ready(self) -> None:
        """Once, when the first start is over."""
        wanted = {i for i, outcome in self._outcomes.items() if outcome.desired.replicas}
        if not self._said_ready and self._models and self._gateway.ready and wanted <= self._greeted:
            self._said_ready = True
            self._tell("all models are ready")

    def _tell(self, line: str) -> None:
        """Say what happened, with the time of day, as soon as it is published."""
        self._news.append(f"{self._clock().astimezone():%H:%M:%S} {line}")

    def _say_news(self) -> None:
        news, self._news = self._news, []
        for line in news:
            self._say(line)

    def _publish(self) -> None:
        """Write routes and status where they changed. What serves goes on where that cannot be, as on a full disk."""
        try:
            self._write_news()
        except OSError as error:
            self._written.clear()
            if self._not_published != str(error):
                self._tell(f'reason=NotPublished because="{error}; it is tried again"')
            self._not_published = str(error)
        else:
            self._not_published = ""

    def _write_news(self) -> None:
        routes = [routing.route(md, md.status, self._outcomes[i].observed) for i, md in self._models.items()]
        document = RouteDocument(models=routes).model_dump_json(by_alias=True, indent=1)
        if self._is_news("routes", document):
            run_directory.write_whole(self._run.routes_file, document)
        report = self._report()
        if self._is_news("status", report.model_dump_json()):
            status_file.write(self._run.root, report)

    def _is_news(self, what: str, text: str) -> bool:
        before, self._written[what] = self._written.get(what), text
        return text != before

    def _report(self) -> UpReport:
        models = [
            ModelReport(id=i, status=md.status, replicas=self._world.reports(i))
            for i, md in {**self._models, **self._leaving}.items()
        ]
        gateway = GatewayReport(
            ready=self._gateway.ready,
            restarts=self._gateway.restarts,
            last_words=self._gateway.last_words,
            pid=self._gateway.program_pid,
            internal_port=self._gateway.internal_port,
        )
        return UpReport(
            pid=self._pid,
            address=self._settings.address,
            started=self._started,
            manifests=[str(file) for file in self._settings.manifests],
            manifest_fault=self._manifest_fault,
            gateway=gateway,
            models=models,
        )

    async def _shut_down(self) -> None:
        """The gateway finishes what runs, then the replicas go; a second signal ends everything at once."""
        longest = timedelta(seconds=self._world.longest_drain_seconds() + _MARGIN_SECONDS)
        if self._stop_asked:
            self._say("\nstopping: running requests are finished; press Ctrl-C again to end at once")
        self._gateway.ask_to_end()
        await self._until(lambda: self._gateway.has_ended, self._clock() + longest)
        self._gateway.end_now()
        now = self._clock()
        self._world.drain_all(now)
        await self._until(self._replicas_gone, now + longest)
        self._gateway.end_now()
        self._world.end_all()
        await self._until(lambda: self._gateway.has_ended and self._replicas_gone(), None)
        child.end_strays([])
        await self._world.close()
        if self._stop_asked:
            self._say("stopped")

    def _replicas_gone(self) -> bool:
        self._world.tick(self._clock())
        return self._world.is_empty

    async def _until(self, done: Callable[[], bool], deadline: datetime | None) -> None:
        """Wait for a fact; with a deadline, until that or the second signal."""
        while not done():
            if deadline is not None and (self._stop_asked > 1 or self._clock() >= deadline):
                return
            await self._rest(BUSY_TICK_SECONDS)
