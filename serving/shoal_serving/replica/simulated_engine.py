"""The simulator as a replica's engine: its service in this process, behind the same door and port as vLLM."""

import asyncio
import time
from collections.abc import Sequence

from shoal_api.replica_config import ReplicaConfig
from shoal_serving.replica import engine_args, simulated_ranks
from shoal_serving.replica.door import App
from shoal_serving.replica.engine_args import RefusedArgument
from shoal_serving.replica.ranks import Layout
from shoal_serving.replica.simulated_wire import carry
from shoal_serving.simulator import knobs as knob_reading
from shoal_serving.simulator.control import Control, read_faults
from shoal_serving.simulator.gatekeeping import Gatekeeper
from shoal_serving.simulator.knobs import BadKnob, Knobs
from shoal_serving.simulator.model import Model
from shoal_serving.simulator.service import Service
from shoal_serving.simulator.tokenizing import from_ids


class Fails(RuntimeError):
    """The simulated engine was told to fail."""


def parse(config: ReplicaConfig, layout: Layout) -> tuple[Model, Layout]:
    """The knobs in the engine's arguments; what Shoal refuses for vLLM is refused here too."""
    engine_args.build(config, layout)
    try:
        knobs = knob_reading.from_engine_args(Knobs(any_model=True), config.args)
        read_faults(knobs.faults)
    except BadKnob as error:
        raise RefusedArgument(str(error)) from error
    if knobs.fail_at in ("Imports", "Engine") and knobs.fail_permanently:
        raise RefusedArgument(knobs.fail_sentence)
    return Model(config.served_name, config.source, knobs), layout


class Engine:
    """A running simulator, with what `engine.Engine` has."""

    def __init__(self, arguments: tuple[Model, Layout]) -> None:
        self._model, self._layout = arguments
        self._service: Service | None = None
        self.tasks: Sequence[str] = ("embed",) if self._model.knobs.embeds else ("generate",)

    async def start(self) -> App:
        knobs = self._model.knobs
        await asyncio.sleep(knobs.imports_seconds + knobs.engine_seconds)
        if knobs.fail_at in ("Imports", "Engine"):
            raise Fails(knobs.fail_sentence)
        gatekeeper = Gatekeeper(None, time.monotonic)
        gatekeeper.ready = True
        service = Service(self._model, gatekeeper, asyncio.get_running_loop(), time.monotonic)
        control = Control(service, lambda _seconds: None, lambda: None)
        service.control = control
        control.order(read_faults(knobs.faults))
        if self._layout.executor == "ray":
            await simulated_ranks.start(self._layout.ranks, service.kill_engine)
        self._service = service
        return carry(service)

    def text_of(self, ids: list[int]) -> str:
        """The text of token ids, as a stream of them shows it."""
        return self._model.words.decode(from_ids(ids))

    @property
    def default_max_tokens(self) -> int | None:
        """It has no generation configuration."""
        return None

    @property
    def is_dead(self) -> bool:
        return self._service is not None and self._service.engine.dead

    @staticmethod
    def process_ids() -> list[int]:
        """It has no processes of its own."""
        return []
