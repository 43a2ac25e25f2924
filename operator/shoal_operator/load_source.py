"""The door to the gateways: dials each of them, hears its load, tells it what the others have in flight or waiting."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime

from pydantic import ValidationError

from shoal_api import load as treaty
from shoal_api.load import LOAD_STREAM_PATH, LoadMessage, ReplicaSums
from shoal_operator.load import Load
from shoal_operator.merging import Gateway, Merger, OutOfOrder

log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5
_DIAL_SECONDS = 2.0
_HEAR_SECONDS = 5.0
_PAUSES_SECONDS = (0.1, 0.25, 0.5, 1.0)
_LONGEST_LINE = 16 * 1024 * 1024
_LONGEST_REASON = 300


class _Refused(Exception):
    """The gateway answered something else than its load; one sentence."""


class Loads:
    """What every gateway tells, merged; `run` keeps it up to date, `of` asks."""

    def __init__(
        self,
        gateways: Callable[[], Iterable[Gateway]],
        token: str,
        clock: Callable[[], datetime],
        on_change: Callable[[frozenset[str] | None], None],
    ) -> None:
        """`on_change` gets the models whose load is another now; None: any model's may be."""
        self._gateways = gateways
        self._token = token
        self._clock = clock
        self._on_change = on_change
        self._merger = Merger(clock())
        self._links: dict[Gateway, asyncio.Task[None]] = {}

    def of(self, model: str, now: datetime) -> Load:
        """What is known of this model's load."""
        return self._merger.load(model, now)

    def forget(self, model: str) -> None:
        """The model is no more."""
        self._merger.forget([model])

    async def run(self) -> None:
        """Keep a connection to every gateway there is, until cancelled."""
        try:
            while True:
                present = {_without_state(gateway): gateway for gateway in self._gateways()}
                for address in [address for address in self._links if address not in present]:
                    self._links.pop(address).cancel()
                for address in present:
                    if address not in self._links:
                        self._links[address] = asyncio.create_task(self._keep(address))
                changed = self._merger.see(present.values(), self._clock())
                if changed is None or changed:
                    self._on_change(changed)
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            for link in self._links.values():
                link.cancel()
            await asyncio.gather(*self._links.values(), return_exceptions=True)
            self._links.clear()

    async def _keep(self, gateway: Gateway) -> None:
        """Hear this gateway, again and again."""
        failures, said = 0, ""
        while True:
            try:
                async with asyncio.timeout(_DIAL_SECONDS):
                    reader, writer = await asyncio.open_connection(gateway.host, gateway.port, limit=_LONGEST_LINE)
                try:
                    async for message in self._messages(reader, writer):
                        changed = self._merger.hear(gateway.name, message, self._clock())
                        failures, said = 0, ""
                        if changed:
                            self._on_change(changed)
                        self._tell_sums(writer, gateway.name)
                finally:
                    writer.close()
                why = "it ended the stream"
            except TimeoutError:
                why = "it does not answer"
            except (OSError, EOFError, asyncio.LimitOverrunError) as error:
                why = str(error) or type(error).__name__
            except (_Refused, OutOfOrder, ValueError) as error:
                why = str(error)
            why = why[:_LONGEST_REASON]
            if why != said and failures:
                said = why
                log.warning("gateway=%s reason=LoadUnheard because=%s", gateway.name, why)
            await asyncio.sleep(_PAUSES_SECONDS[min(failures, len(_PAUSES_SECONDS) - 1)])
            failures += 1

    async def _messages(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> AsyncIterator[LoadMessage]:
        """Ask for the stream; every message that comes."""
        writer.write(
            f"POST {LOAD_STREAM_PATH} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {self._token}\r\n"
            "content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n".encode()
        )
        async with asyncio.timeout(_HEAR_SECONDS):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        status = head[0].split(" ")[1:2]
        if status != ["200"] or "transfer-encoding: chunked" not in head:
            raise _Refused(f"it answered {head[0]!r}")
        rest = b""
        while True:
            async with asyncio.timeout(_HEAR_SECONDS):
                size = int(await reader.readuntil(b"\r\n"), 16)
                if size > _LONGEST_LINE:
                    raise _Refused(f"it sent a chunk of {size} bytes")
                chunk = await reader.readexactly(size + 2)
            if not size:
                return
            *lines, rest = (rest + chunk[:-2]).split(b"\n")
            for line in lines:
                yield _read(line)

    def _tell_sums(self, writer: asyncio.StreamWriter, name: str) -> None:
        """After each of its messages a gateway learns what the others have in flight, and where callers wait."""
        if writer.transport.get_write_buffer_size():
            return  # it does not read; the next sums are newer
        sums = ReplicaSums(
            version=treaty.VERSION,
            elsewhere=self._merger.elsewhere(name),
            claims=self._merger.claims(name, self._clock()),
        )
        line = sums.model_dump_json(by_alias=True).encode() + b"\n"
        writer.write(b"%x\r\n%b\r\n" % (len(line), line))


def _read(line: bytes) -> LoadMessage:
    try:
        facts = json.loads(line)
        version = facts.get("version", 1) if isinstance(facts, dict) else None
        if not isinstance(version, int) or not treaty.is_understood(version):
            raise _Refused(f"it speaks version {version} of the load message, this operator {treaty.VERSION}")
        return LoadMessage.model_validate(facts)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise _Refused(f"it sent no load message: {first['loc']}: {first['msg']}") from error
    except ValueError as error:
        raise _Refused(f"it sent no JSON ({error})") from error


def _without_state(gateway: Gateway) -> Gateway:
    """What makes it another connection."""
    return Gateway(gateway.name, gateway.host, gateway.port, is_ready=True)
