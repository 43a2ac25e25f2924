"""Carry requests of an ASGI server to the simulator's own connections, and their bytes back, within one process."""

import asyncio
from dataclasses import dataclass, field

import httptools

from shoal_api import proof
from shoal_serving.replica.door import App, Message, Receive, Scope, Send
from shoal_serving.simulator.connection import Connection
from shoal_serving.simulator.service import Service

_MOST_WAITING = 64
_NOT_CARRIED = frozenset({b"connection", b"content-length", b"transfer-encoding", b"expect", b"date", b"server"})
_DONE_BEFORE = frozenset({proof.CONTINUE_HEADER.encode()})
"""What the replica in front has done already and the simulator would do again."""


class Cut(ConnectionError):
    """The simulator ended the connection before the answer was whole."""


@dataclass(slots=True)
class _Answer:
    """What httptools finds in the simulator's bytes, as ASGI messages; None is a cut."""

    messages: "asyncio.Queue[Message | None]"
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    parser: httptools.HttpResponseParser | None = None

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() not in _NOT_CARRIED or name.lower() == b"content-length":
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code() if self.parser is not None else 0
        self.messages.put_nowait({"type": "http.response.start", "status": status, "headers": self.headers})

    def on_body(self, body: bytes) -> None:
        self.messages.put_nowait({"type": "http.response.body", "body": body, "more_body": True})

    def on_message_complete(self) -> None:
        self.messages.put_nowait({"type": "http.response.body", "body": b"", "more_body": False})


class _Wire:
    """Stands where a connection expects its transport."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.messages: asyncio.Queue[Message | None] = asyncio.Queue()
        answer = _Answer(self.messages)
        answer.parser = self._parser = httptools.HttpResponseParser(answer)
        self._is_closed = False
        self.client_left = False

    def write(self, data: bytes) -> None:
        if self._is_closed:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()
        if self.messages.qsize() > _MOST_WAITING:
            self._connection.pause_writing()

    def taken(self) -> None:
        if self._connection.paused and self.messages.empty():
            self._connection.resume_writing()

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self.messages.put_nowait(None)

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self._is_closed

    def pause_reading(self) -> None:
        """There is one request, and it has been read."""

    def resume_reading(self) -> None:
        """As above."""

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, _name: str) -> "_Wire":
        return self

    def setsockopt(self, *_option: object) -> None:
        """How the connection is to end is decided by the server in front."""


def carry(service: Service) -> App:
    """The simulator as an ASGI app."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = await _request(scope, receive)
        connection = Connection(service, asyncio.get_running_loop())
        wire = _Wire(connection)
        connection.connection_made(wire)  # type: ignore[arg-type]  # what a connection uses of a transport is there
        leaving = asyncio.create_task(_client_leaves(receive, wire))
        try:
            connection.data_received(request)
            await _answer(wire, send)
        finally:
            leaving.cancel()
            connection.connection_lost(None)

    return app


async def _request(scope: Scope, receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    target = scope.get("raw_path") or scope["path"].encode()
    query = scope.get("query_string", b"")
    lines = [b"%s %s HTTP/1.1" % (scope["method"].encode(), target + (b"?" + query if query else b""))]
    lines += [
        b"%s: %s" % (name, value) for name, value in scope["headers"] if name.lower() not in _NOT_CARRIED | _DONE_BEFORE
    ]
    lines += [b"content-length: %d" % len(body), b"", b""]
    return b"\r\n".join(lines) + bytes(body)


async def _client_leaves(receive: Receive, wire: _Wire) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    wire.client_left = True
    wire.close()


async def _answer(wire: _Wire, send: Send) -> None:
    while True:
        message = await wire.messages.get()
        if message is None and wire.client_left:
            return
        if message is None:
            raise Cut("the simulator cut its answer")
        await send(message)
        wire.taken()
        if message["type"] == "http.response.body" and not message["more_body"]:
            return
