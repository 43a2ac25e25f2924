"""Tell the operator this gateway's load, and hear what the others have: the stream on the internal port."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from pydantic import ValidationError

from shoal_api import load as treaty
from shoal_api import proof
from shoal_api.load import TELL_SECONDS, LoadMessage, ModelLoad, ReplicaSums

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_AT_MOST_EVERY_SECONDS = 0.1
_STALE_SECONDS = 5.0
_LONGEST_LINE = 16 * 1024 * 1024


class Teller(Protocol):
    """The gateway as the stream sees it."""

    boot: str

    def loads(self) -> dict[str, ModelLoad]:
        """Every model that was ever asked for."""

    def uptime_seconds(self) -> float:
        """How long this gateway counts already."""

    def put_sums(self, sums: ReplicaSums) -> None:
        """What is known of the other gateways."""


class Alarm:
    """Rung when somebody waits for a model without a replica; every stream hears it."""

    def __init__(self) -> None:
        self._streams: set[asyncio.Event] = set()

    def ring(self) -> None:
        for stream in self._streams:
            stream.set()

    def join(self, stream: asyncio.Event) -> None:
        self._streams.add(stream)

    def leave(self, stream: asyncio.Event) -> None:
        self._streams.discard(stream)


class Changes:
    """What one stream was told already."""

    def __init__(self, teller: Teller) -> None:
        self._teller = teller
        self._told: dict[str, ModelLoad] = {}
        self._sequence = -1

    def message(self) -> LoadMessage:
        """The first time everything, then what is another. Of an idle model only the beginning is news."""
        loads = self._teller.loads()
        is_whole = self._sequence < 0
        news = {model: load for model, load in loads.items() if is_whole or _is_news(load, self._told.get(model))}
        news |= {model: ModelLoad() for model, was in self._told.items() if model not in loads and not _is_idle(was)}
        self._told = loads
        self._sequence += 1
        return LoadMessage(
            version=treaty.VERSION,
            boot=self._teller.boot,
            sequence=self._sequence,
            is_whole=is_whole,
            uptime_seconds=self._teller.uptime_seconds(),
            models=news,
        )


class LoadStream:
    """The ASGI app behind LOAD_STREAM_PATH."""

    def __init__(self, teller: Teller, alarm: Alarm, master_key: bytes) -> None:
        self._teller = teller
        self._alarm = alarm
        self._master_key = master_key
        self._newest: object = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One operator, for as long as it listens."""
        shown = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        if not proof.is_right_load_token(self._master_key, shown):
            await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})
            return
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/x-ndjson")]}
        )
        self._newest = this = object()
        woken = asyncio.Event()
        self._alarm.join(woken)
        telling = asyncio.create_task(self._tell(send, woken))
        try:
            async for sums in _sums(receive):
                if self._newest is this:
                    self._teller.put_sums(sums)
        except (TimeoutError, ValueError) as error:
            log.warning("reason=LoadStreamEnded because=%s", str(error) or "the operator says nothing")
        finally:
            self._alarm.leave(woken)
            if self._newest is this:
                self._teller.put_sums(ReplicaSums())
            telling.cancel()
            [ended] = await asyncio.gather(telling, return_exceptions=True)
            if isinstance(ended, Exception):
                log.error("reason=LoadUntold", exc_info=ended)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _tell(self, send: Send, woken: asyncio.Event) -> None:
        """Every second; when somebody waits for a model without a replica at once, of a crowd ten times a second."""
        changes = Changes(self._teller)
        while True:
            is_urgent = woken.is_set()
            woken.clear()
            line = changes.message().model_dump_json(by_alias=True).encode() + b"\n"
            await send({"type": "http.response.body", "body": line, "more_body": True})
            if is_urgent:
                await asyncio.sleep(_AT_MOST_EVERY_SECONDS)
            try:
                async with asyncio.timeout(TELL_SECONDS):
                    await woken.wait()
            except TimeoutError:
                pass


async def _sums(receive: Receive) -> AsyncIterator[ReplicaSums]:
    """Every message of the operator, until it goes or is silent for long."""
    rest = b""
    while True:
        async with asyncio.timeout(_STALE_SECONDS):
            event = await receive()
        if event["type"] != "http.request":
            return
        *lines, rest = (rest + event.get("body", b"")).split(b"\n")
        if len(rest) > _LONGEST_LINE:
            raise ValueError("the operator sent a line without end")
        for line in lines:
            yield _read(line)
        if not event.get("more_body", False):
            return


def _read(line: bytes) -> ReplicaSums:
    facts = json.loads(line)
    version = facts.get("version", 1) if isinstance(facts, dict) else None
    if not isinstance(version, int) or not treaty.is_understood(version):
        raise ValueError(f"the operator speaks version {version} of the load message, this gateway {treaty.VERSION}")
    try:
        return ReplicaSums.model_validate(facts)
    except ValidationError as error:
        raise ValueError(f"the operator sent no sums: {error.errors(include_url=False)[0]['msg']}") from error


def _is_idle(load: ModelLoad) -> bool:
    return not load.waiting and not load.in_flight


def _is_news(load: ModelLoad, told: ModelLoad | None) -> bool:
    """That nobody asks for longer is no news. Requests that came and went in between show only in their count."""
    if told is not None and _is_idle(load) and _is_idle(told):
        return load.arrived != told.arrived
    return load != told
