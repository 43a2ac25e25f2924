"""The one door to kopf: it watches, and every event of every kind becomes a reading for the store."""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence

import kopf

from shoal_operator.cluster import Connection
from shoal_operator.kinds import MADE, MODEL, Kind, Manifest

Seen = Callable[[Kind, Manifest, str | None], None]
"""Kind, object and what happened to it: ADDED, MODIFIED, DELETED, or None where it stands in a list that was read
anew: what was deleted before such a list is never told."""

_STOP_SECONDS = 15.0


class HandingOver:
    """Carries readings from a thread to the loop that made this; the loop is woken once for all that wait.

    asyncio writes a byte for every wake-up from outside to the pipe by which it hears of signals, too: a thousand
    objects listed while the loop was busy filled it, and a SIGTERM was lost.
    """

    def __init__(self, seen: Seen) -> None:
        self._loop = asyncio.get_running_loop()
        self._seen = seen
        self._guard = threading.Lock()
        self._waiting: list[tuple[Kind, Manifest, str | None]] = []

    def __call__(self, kind: Kind, manifest: Manifest, what: str | None) -> None:
        with self._guard:
            self._waiting.append((kind, manifest, what))
            if len(self._waiting) > 1:
                return
        self._loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        with self._guard:
            taken, self._waiting = self._waiting, []
        for reading in taken:
            self._loop.call_soon(self._seen, *reading)


class Watching:
    """kopf in a thread with a loop of its own: it takes signals and ends every task of the loop that it runs in."""

    def __init__(
        self, connect: Callable[[], Awaitable[Connection]], namespaces: Sequence[str], seen: Seen, selector: str
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._registry = _registry(connect, HandingOver(seen))
        self._settings = _settings(selector)
        self._namespaces = list(namespaces)
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)

    def start(self) -> None:
        self._thread.start()

    async def ended(self) -> None:
        """Returns or raises when it does: it never does so by itself, unless it cannot go on."""
        await asyncio.shield(self._ended)

    async def stop(self) -> None:
        """Watch no longer."""
        self._stop.set()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await asyncio.wait([self._ended])
        except TimeoutError:
            logging.getLogger(__name__).warning('reason=WatchStopsLate because="kopf did not end in time"')

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            kopf.run(
                registry=self._registry,
                settings=self._settings,
                standalone=True,
                clusterwide=not self._namespaces,
                namespaces=self._namespaces,
                stop_flag=self._stop,
            )
        except BaseException as raised:  # noqa: BLE001  (a thread has nobody else to tell)
            error = raised
        self._loop.call_soon_threadsafe(self._end, error)

    def _end(self, error: BaseException | None) -> None:
        if self._ended.done():
            return
        if error is not None:
            self._ended.set_exception(RuntimeError(f"the watches ended: {error}"))
        else:
            self._ended.set_result(None)


def _registry(connect: Callable[[], Awaitable[Connection]], hand_over: Seen) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**_: object) -> kopf.ConnectionInfo:
        connection = await connect()  # asked anew each time: tokens of pods are exchanged every hour
        scheme, _space, token = connection.authorization.rpartition(" ")
        return kopf.ConnectionInfo(
            server=connection.server,
            ca_path=connection.ca_path,
            insecure=not connection.is_verified,
            scheme=scheme.capitalize() or None,
            token=token or None,
            certificate_path=connection.certificate_path,
            private_key_path=connection.private_key_path,
        )

    for kind in (MODEL, *MADE):
        _listen(registry, kind, hand_over)
    return registry


def _listen(registry: kopf.OperatorRegistry, kind: Kind, hand_over: Seen) -> None:
    @kopf.on.event(kind.group, kind.version, kind.plural, registry=registry, id=kind.plural)
    async def listen(event: kopf.RawEvent, **_: object) -> None:
        # Nothing is decided and nothing written here: kopf then has no reason to put anything on an object.
        manifest: Manifest = {**event["object"]}
        hand_over(kind, manifest, event["type"])


def _settings(selector: str) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    for kind in MADE:
        settings.watching.label_selectors[kind.group, kind.version, kind.plural] = selector
    return settings
