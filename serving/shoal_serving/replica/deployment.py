"""The Serve deployment of a replica: vLLM's own app behind our door, on the replica's one port."""

import asyncio
import importlib
import os
import time
import traceback

from ray import serve

from shoal_api.replica_config import ReplicaConfig, Stage
from shoal_serving.replica import config as configuration
from shoal_serving.replica import engine_log, engines, environment, forking, ranks, self_test
from shoal_serving.replica.admission import Admission
from shoal_serving.replica.door import App, Door
from shoal_serving.replica.engine_args import RefusedArgument
from shoal_serving.replica.notes import ACTOR, ENGINE_CORE, Died, Notebook, Serving, Vital
from shoal_serving.replica.ranks import Layout
from shoal_serving.replica.resuming import Resuming

_WATCH_SECONDS = 0.25
_FOREVER = 10.0**9
_UNBOUNDED = 10**9


class SelfTestFailed(RuntimeError):
    """The engine says that it is healthy but cannot do its work."""


class Replica:
    """One engine. Its constructor returns when a real request has succeeded; if that cannot be, it says so and waits to
    be ended: Serve must not try again in place, since the engine's processes and the port are still taken."""

    async def __init__(self, config: ReplicaConfig) -> None:  # type: ignore[misc]  # Serve awaits constructors
        notebook = Notebook(config.directory, time.time)
        notebook.note(Vital(os.getpid(), ACTOR))
        engine_log.redirect_output(config.directory)
        self._ready = False
        self._stage = Stage.IMPORTS
        try:
            await self._start(config, notebook)
        except Exception as error:  # noqa: BLE001  (whatever it is, it ends the replica with its reason)
            refused = isinstance(error, (RefusedArgument, configuration.BadConfig, ranks.CannotLayOut))
            if not refused:
                traceback.print_exc()
            notebook.note(Died(self._stage, str(error) if refused else f"{type(error).__name__}: {error}", refused))
            await asyncio.Event().wait()

    async def _start(self, config: ReplicaConfig, notebook: Notebook) -> None:
        notebook.report(Stage.IMPORTS)
        layout = ranks.lay_out(config)
        key = configuration.read_model_key(config)
        if layout.executor == "ray":  # the engine's core is a process of its own and must find this very cluster
            os.environ["RAY_ADDRESS"] = environment.gcs_address(config)
        engine = importlib.import_module(engines.module(os.environ))
        if forking.join_server():
            forking.use_server()
        arguments = engine.parse(config, layout)
        self._advance(notebook, Stage.ENGINE)
        self._engine = engine.Engine(arguments)
        app: App = await self._engine.start()
        for pid in self._engine.process_ids():
            notebook.note(Vital(pid, ENGINE_CORE))
        self._watch = asyncio.create_task(self._note_death(notebook))
        self._advance(notebook, Stage.SELF_TEST)
        await self._test(app, config.served_name, notebook)
        new_key = configuration.KeyFile(config).changed
        admission = Admission(key, config.replica_uid, config.settle_seconds, new_key=new_key)
        resuming = Resuming(app, self._engine.text_of, self._engine.default_max_tokens)
        self._door = Door(resuming, admission, self, time.monotonic)
        self._ready = True

    def _advance(self, notebook: Notebook, stage: Stage) -> None:
        self._stage = stage
        notebook.report(stage)

    async def _test(self, app: App, name: str, notebook: Notebook) -> None:
        trial = self_test.trial_for(self._engine.tasks, name)
        if trial is None:
            raise SelfTestFailed(f"no request is known that would test a model for {', '.join(self._engine.tasks)}")
        begun = time.monotonic()
        outcome = await self_test.run(app, trial)
        if not outcome.succeeded:
            raise SelfTestFailed(f"{trial.path} answered {outcome.status}: {outcome.reason}")
        notebook.note(Serving(time.monotonic() - begun))

    async def _note_death(self, notebook: Notebook) -> None:
        while not self._engine.is_dead:  # noqa: ASYNC110  (vLLM offers a flag and no event)
            await asyncio.sleep(_WATCH_SECONDS)
        during = Stage.READY if self._ready else Stage.SELF_TEST
        notebook.note(Died(during, f"{ENGINE_CORE} died", is_refusal=False))

    def is_ready(self) -> bool:
        return self._ready and not self._engine.is_dead

    def __serve_build_asgi_app__(self) -> App:
        return self._door


def application(config: ReplicaConfig, layout: Layout) -> serve.Application:
    """The one application of this replica's own Ray cluster."""
    deployment = serve.deployment(
        name="replica",
        num_replicas=1,
        max_ongoing_requests=_UNBOUNDED,  # the door bounds what runs, by the limit that comes with each request
        health_check_period_s=_FOREVER,  # the program at the top watches; Serve must not restart in place
        health_check_timeout_s=_FOREVER,
        graceful_shutdown_timeout_s=1,
        graceful_shutdown_wait_loop_s=0.1,
        ray_actor_options={"num_cpus": 0, "num_gpus": layout.actor_gpus},
        placement_group_bundles=[dict(bundle) for bundle in layout.bundles],
        placement_group_strategy="PACK",
    )
    return deployment(serve.ingress()(Replica)).bind(config)
