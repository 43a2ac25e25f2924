"""The half of a client connection that reads: requests as they come in, refused as soon as that can be told."""

from collections.abc import Callable
from typing import Any

import httptools

from shoal_serving.gateway.errors import Refusal
from shoal_serving.gateway.incoming import Incoming, surface_of
from shoal_serving.gateway.keys import identify
from shoal_serving.gateway.surfaces import Surface
from shoal_serving.gateway.switchboard import Switchboard

HEAD_LIMIT = 64 * 1024
OTHER_BODY_LIMIT = 1024 * 1024

_NOTHING = Incoming()
"""Stands for the request that did not begin."""
_NOTHING.has_head = True


class Intake:
    """What comes from one client. The parser calls its `on_…`."""

    __slots__ = ("_has_ended_one", "_head_size", "_incoming", "_parser", "_switchboard", "_take", "_tell_to_go_on")

    def __init__(
        self, switchboard: Switchboard, take: Callable[[Incoming], None], tell_to_go_on: Callable[[], None]
    ) -> None:
        """`take` gets each request when it is whole, or refused before its body was read to the end; `tell_to_go_on`
        is called where the client waits for leave to send its body."""
        self._switchboard = switchboard
        self._take = take
        self._tell_to_go_on = tell_to_go_on
        self._incoming = _NOTHING
        self._head_size = 0
        self._has_ended_one = False
        """A request came to its end in the bytes that are fed."""
        self._parser: Any = httptools.HttpRequestParser(self)
        # So that a request that came behind one that ends the connection breaks nothing before its turn.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)

    @property
    def is_between(self) -> bool:
        """Whether no request has begun and not ended."""
        return self._incoming is _NOTHING

    def feed(self, data: bytes) -> Refusal | None:
        """Further bytes; a refusal where nothing after them can be understood."""
        self._has_ended_one = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return None
        except httptools.HttpParserError:
            return Refusal(400, "The request is not valid HTTP.", "invalid_http")
        # Where another request ended in these bytes, most of them may be its body.
        if not self._incoming.has_head and not self._has_ended_one:
            self._head_size += len(data)
            if self._head_size > HEAD_LIMIT:
                return Refusal(431, "The headers of the request are too large.", "headers_too_large")
        return None

    def close(self) -> None:
        """Nothing more comes."""
        self._parser = None  # it refers to us, too
        self._incoming.forget(self._switchboard.budget)

    # -- called by the parser

    def on_message_begin(self) -> None:
        self._incoming = Incoming()
        self._head_size = 0

    def on_url(self, url: bytes) -> None:
        self._incoming.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        incoming = self._incoming
        if not incoming.has_head:  # what comes later is a trailer
            incoming.header(name, value)

    def on_headers_complete(self) -> None:
        incoming, parser = self._incoming, self._parser
        incoming.has_head = True
        incoming.method = parser.get_method()
        incoming.keep_alive = parser.should_keep_alive() and not parser.should_upgrade()
        if incoming.has_connection_header or not incoming.keep_alive:
            # Without that header only HTTP/1.1 keeps a connection: no need to ask.
            incoming.is_10 = parser.get_http_version() == "1.0"
        most = OTHER_BODY_LIMIT
        if incoming.method == b"POST":
            surface = surface_of(incoming.url)
            if surface is not None:
                incoming.surface = surface
                most = self._switchboard.max_body_bytes
                if not self._admit(incoming, surface):
                    return
        length = incoming.length
        if length > most:
            self._refuse(incoming, _too_large(most))
        elif length > 0:
            if self._switchboard.budget.take(length):
                incoming.taken = length
            else:
                self._refuse(incoming, self._switchboard.refusals.bytes_full())
        if incoming.expects_100 and incoming.refusal is None:
            self._tell_to_go_on()

    def on_body(self, body: bytes) -> None:
        incoming = self._incoming
        if incoming.refusal is not None:
            return
        incoming.more(body)
        if incoming.length >= 0:
            return
        most = self._switchboard.max_body_bytes if incoming.surface is not None else OTHER_BODY_LIMIT
        if incoming.size > most:
            self._refuse(incoming, _too_large(most))
        elif not self._switchboard.budget.take(len(body)):
            self._refuse(incoming, self._switchboard.refusals.bytes_full())
        else:
            incoming.taken += len(body)

    def on_message_complete(self) -> None:
        incoming, self._incoming = self._incoming, _NOTHING
        self._has_ended_one = True
        if incoming.refusal is None:
            self._take(incoming)

    # -- refused while it comes

    def _admit(self, incoming: Incoming, surface: Surface) -> bool:
        """Whether the caller is known; a request without a right key is refused before its body is read."""
        caller = identify(incoming.headers, self._switchboard.keyring)
        if isinstance(caller, Refusal):
            self._refuse(incoming, caller)
            return False
        incoming.caller = caller
        if surface.is_form:
            incoming.is_form()
        return True

    def _refuse(self, incoming: Incoming, refusal: Refusal) -> None:
        """The body is not read to its end: answer now (or in turn), and let the connection go."""
        incoming.forget(self._switchboard.budget)
        incoming.refusal = refusal
        incoming.keep_alive = False
        self._take(incoming)


def _too_large(most: int) -> Refusal:
    return Refusal(413, f"The body of the request is larger than {most} bytes.", "request_too_large")
