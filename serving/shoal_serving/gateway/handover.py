"""Hand a request that is no inference request over to FastAPI, by uvicorn's own request cycle."""

import asyncio
import logging
from collections.abc import Callable
from urllib.parse import unquote

import httptools
from uvicorn._types import HTTPScope
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.protocols.utils import get_local_addr, get_remote_addr

from shoal_serving.gateway.incoming import Incoming

_log = logging.getLogger("uvicorn.error")


class BadTarget(ValueError):
    """The target of the request cannot be parsed."""


class Handover:
    """What one client connection needs for such requests; made for the first of them."""

    def __init__(
        self, config: Config, tasks: set[asyncio.Task[None]], transport: asyncio.Transport, then: Callable[[], None]
    ) -> None:
        """`then` is called after each answer."""
        self._config = config
        self._tasks = tasks
        self._transport = transport
        self._then = then
        self._flow = FlowControl(transport)
        self._cycle: RequestResponseCycle | None = None

    def start(self, incoming: Incoming, keep_alive: bool) -> None:
        """Answer this request; its body is there."""
        config = self._config
        cycle = RequestResponseCycle(
            scope=self._scope(incoming),
            transport=self._transport,
            flow=self._flow,
            logger=_log,
            access_logger=_log,
            access_log=False,
            default_headers=[],
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=keep_alive,
            on_response=self._then,
        )
        cycle.body = bytearray(incoming.body())
        cycle.more_body = False
        cycle.message_event.set()
        self._cycle = cycle
        task = asyncio.get_running_loop().create_task(cycle.run_asgi(config.loaded_app))
        task.add_done_callback(self._tasks.discard)
        self._tasks.add(task)

    def client_slow(self) -> None:
        """The client does not keep up."""
        self._flow.pause_writing()

    def client_ready(self) -> None:
        """The client caught up."""
        self._flow.resume_writing()

    def client_gone(self) -> None:
        """Nobody waits for the answer."""
        if self._cycle is not None:
            if not self._cycle.response_complete:
                self._cycle.disconnected = True
            self._cycle.message_event.set()
        self._flow.resume_writing()

    def _scope(self, incoming: Incoming) -> HTTPScope:
        try:
            url = httptools.parse_url(incoming.url)
        except httptools.HttpParserInvalidURLError:
            raise BadTarget from None
        raw_path = url.path or b"/"
        return {
            "type": "http",
            "asgi": {"version": self._config.asgi_version, "spec_version": "2.3"},
            "http_version": "1.0" if incoming.is_10 else "1.1",
            "method": incoming.method.decode("ascii"),
            "server": get_local_addr(self._transport),
            "client": get_remote_addr(self._transport),
            "scheme": "http",
            "root_path": "",
            "path": unquote(raw_path.decode("latin-1")),
            "raw_path": raw_path,
            "query_string": url.query or b"",
            "headers": incoming.headers,
            "state": {},
        }
