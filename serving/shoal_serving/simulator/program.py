"""The life of a simulated replica: it starts in stages, serves, drains and ends as the real one does."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from shoal_api.replica_config import ReplicaConfig, Stage
from shoal_api.termination import EXIT_DRAINED, EXIT_FAULT, EXIT_PERMANENT, LastWords
from shoal_serving.replica.admission import Admission
from shoal_serving.replica.config import KeyFile
from shoal_serving.replica.notes import Notebook
from shoal_serving.simulator.connection import Connection
from shoal_serving.simulator.control import Control, read_faults
from shoal_serving.simulator.gatekeeping import Gatekeeper
from shoal_serving.simulator.knobs import Knobs
from shoal_serving.simulator.model import Model
from shoal_serving.simulator.service import Service

_LOOK_SECONDS = 0.02
_SWEEP_SECONDS = 1.0
_BACKLOG = 4096


@dataclass(frozen=True, slots=True)
class Place:
    """Where a program listens."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Place":
        host, _, port = text.rpartition(":")
        return cls(host.strip("[]") or "127.0.0.1", int(port))


class GivesUp(Exception):
    """The replica ends before it has served."""

    def __init__(self, words: LastWords) -> None:
        super().__init__(words.sentence)
        self.words = words


class Listener:
    """The listening socket, which faults can close and open again."""

    def __init__(self, place: Place, make: Callable[[], Connection]) -> None:
        self._place = place
        self._make = make
        self._server: asyncio.Server | None = None
        self._opening: asyncio.Task[None] | None = None

    def open(self) -> None:
        if self._server is None:
            self._opening = asyncio.get_running_loop().create_task(self.opened())

    async def opened(self) -> None:
        if self._server is not None:
            return
        try:
            self._server = await asyncio.get_running_loop().create_server(
                self._make, self._place.host, self._place.port, backlog=_BACKLOG, reuse_address=True
            )
        except OSError as error:
            sentence = f"port {self._place.port} of {self._place.host} cannot be listened on: {error.strerror or error}"
            raise GivesUp(LastWords(f"{sentence}; end what uses it or choose another", permanent=False)) from error

    def close(self, seconds: float = 0.0) -> None:
        """Connections are refused, for so long or (0) until it is opened."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if seconds:
            asyncio.get_running_loop().call_later(seconds, self.open)


class Program:
    """One simulated replica in this process."""

    def __init__(self, model: Model, place: Place, control_place: Place | None, config: ReplicaConfig | None) -> None:
        self._model = model
        self._place = place
        self._control_place = control_place
        self._config = config
        self._asked_to_end = asyncio.Event()
        self._died = asyncio.Event()
        self._notebook = None if config is None else Notebook(config.directory, time.time)

    async def run(self, key: bytes) -> int:
        """Everything from the start to the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_end.set)
        config = self._config
        admission = None
        if config is not None:
            new_key = KeyFile(config).changed
            admission = Admission(key, config.replica_uid, config.settle_seconds, new_key=new_key)
        gatekeeper = Gatekeeper(admission, time.monotonic)
        service = Service(self._model, gatekeeper, loop, time.monotonic)
        service.replica = config.replica if config is not None else f"{self._place.host}:{self._place.port}"
        service.on_death = self._died.set
        try:
            return await self._live(service)
        except GivesUp as given_up:
            return self._give_up(given_up.words)

    async def _live(self, service: Service) -> int:
        listener = Listener(self._place, lambda: Connection(service, asyncio.get_running_loop()))
        control = Control(service, listener.close, listener.open)
        service.control = control
        async with self._control_port(service):
            await self._start(service.model.knobs)
            if self._asked_to_end.is_set():
                return EXIT_DRAINED
            await listener.opened()
            service.gatekeeper.ready = True
            self._report(Stage.READY)
            control.order(read_faults(service.model.knobs.faults))
            sweeper = asyncio.create_task(_sweep(service))
            try:
                return await self._serve(service)
            finally:
                sweeper.cancel()
                listener.close()

    @asynccontextmanager
    async def _control_port(self, service: Service) -> AsyncIterator[None]:
        """A second port that no fault reaches."""
        if self._control_place is None:
            yield
            return
        loop = asyncio.get_running_loop()
        listener = Listener(self._control_place, lambda: Connection(service, loop, is_immune=True))
        await listener.opened()
        yield
        listener.close()

    async def _start(self, knobs: Knobs) -> None:
        stages = (
            (Stage.RAY, knobs.ray_seconds),
            (Stage.IMPORTS, knobs.imports_seconds),
            (Stage.ENGINE, knobs.engine_seconds),
            (Stage.SELF_TEST, knobs.self_test_seconds),
        )
        for stage, seconds in stages:
            self._report(stage)
            if seconds:
                try:
                    await asyncio.wait_for(self._asked_to_end.wait(), seconds)
                except TimeoutError:
                    pass  # nobody asked: the stage took its time
            if self._asked_to_end.is_set():
                return
            if knobs.fail_at == stage:
                raise GivesUp(LastWords(knobs.fail_sentence, knobs.fail_permanently))

    async def _serve(self, service: Service) -> int:
        ending = asyncio.create_task(self._asked_to_end.wait())
        dying = asyncio.create_task(self._died.wait())
        try:
            while not ending.done() and not dying.done() and not service.gatekeeper.is_draining:
                await asyncio.wait((ending, dying), timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if not dying.done():
                return await self._drain(service)
        finally:
            ending.cancel()
            dying.cancel()
        await asyncio.sleep(service.model.knobs.dying_seconds)
        sentence = "the engine's core process ended: it was killed; look for the machine's out-of-memory messages"
        return self._give_up(LastWords(sentence, permanent=False))

    async def _drain(self, service: Service) -> int:
        self._report(Stage.DRAINING)
        service.gatekeeper.begin_drain()
        config, admission = self._config, service.gatekeeper.admission
        if config is None or admission is None or admission.draining_since is None:
            return EXIT_DRAINED
        deadline = admission.draining_since + config.settle_seconds + config.drain_seconds
        while not admission.is_drained(time.monotonic()) and time.monotonic() < deadline and not self._died.is_set():
            try:
                await asyncio.wait_for(self._died.wait(), _LOOK_SECONDS)
            except TimeoutError:
                pass  # it lives; time to look again
        return EXIT_DRAINED

    def _report(self, stage: Stage, sentence: str = "") -> None:
        if self._notebook is not None:
            self._notebook.report(stage, sentence)

    def _give_up(self, words: LastWords) -> int:
        self._report(Stage.FAILED, words.sentence)
        if self._config is not None:
            write_last_words(self._config.termination_message, words)
        print(words.to_text(), flush=True)
        return EXIT_PERMANENT if words.permanent else EXIT_FAULT


def write_last_words(file: Path, words: LastWords) -> None:
    try:
        file.write_text(words.to_text())
    except OSError as error:
        print(f"the termination message {file} cannot be written: {error.strerror}", flush=True)


async def _sweep(service: Service) -> None:
    """Closes connections that have been idle for too long, as uvicorn does."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(_SWEEP_SECONDS)
        longest = service.model.knobs.keep_alive_seconds
        if longest:
            for connection in [*service.connections]:
                if connection.is_idle and loop.time() - connection.idle_since > longest:
                    connection.close()
