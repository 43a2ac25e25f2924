"""Check a request whose body is there, in the order of semantics.md, up to the model that it means."""

from typing import TYPE_CHECKING

from shoal_serving.gateway import continuation, headers, keys, multipart, openai_shapes
from shoal_serving.gateway.errors import Refusal
from shoal_serving.gateway.keys import ANYBODY, Caller
from shoal_serving.gateway.multipart import Form, Pieces
from shoal_serving.gateway.openai_shapes import Asked
from shoal_serving.gateway.surfaces import Surface
from shoal_serving.gateway.transcript import Transcript

if TYPE_CHECKING:
    from shoal_serving.gateway.line import Line
    from shoal_serving.gateway.switchboard import Switchboard


class Checked:
    """A request that has a model: what goes to an engine, and what is said of it to the client."""

    __slots__ = (
        "body",
        "caller",
        "client_lines",
        "engine_lines",
        "line",
        "patience",
        "request_id",
        "stream",
        "transcript",
        "user",
    )

    def __init__(
        self,
        line: "Line",
        stream: bool,
        body: bytes | Pieces,
        engine_lines: bytes,
        client_lines: bytes,
        request_id: bytes,
        caller: Caller,
        user: str,
        patience: float,
        transcript: Transcript | None,
    ) -> None:
        """`engine_lines`: header lines for the engine, without what belongs to the connection; `client_lines`: those
        that every answer to this request has; `user`: for whom a caller without a key says that it asks; `patience`:
        seconds, 0 where the client does not say; `transcript`: what will be known of the stream, where it can be
        continued exactly."""
        self.line = line
        self.stream = stream
        self.body = body
        self.engine_lines = engine_lines
        self.client_lines = client_lines
        self.request_id = request_id
        self.caller = caller
        self.user = user
        self.patience = patience
        self.transcript = transcript


def check(
    switchboard: "Switchboard",
    surface: Surface,
    caller: Caller,
    read: headers.Request,
    request_id: bytes,
    body: bytes | bytearray,
) -> Checked | Refusal:
    """The request with its model, or why it is refused. `body` is read whole; only the value of `model` may change, and
    token ids are asked for where they are needed to continue a stream."""
    asked = _asked(surface, read.content_type, body)
    if isinstance(asked, Refusal):
        return asked
    route = switchboard.table.by_name.get(asked.model)
    if route is None:
        return switchboard.not_found(asked.model, caller)
    if not caller.may_use(route, switchboard.table):
        return keys.denied(asked.model)
    line = switchboard.line_of(route)
    if asked.model == line.served_name:
        model_line = line.canonical_line
        outgoing = _outgoing(body, asked, None)
    else:
        model_line = line.alias_line
        outgoing = _outgoing(body, asked, line.served_name)
    transcript = None
    if asked.stream and line.is_exact and isinstance(asked, Asked) and isinstance(outgoing, bytes):
        transcript = continuation.begin(surface.path, asked.fields, outgoing, line.served_name)
        if transcript is not None:
            outgoing = continuation.asking_for_ids(outgoing)
    trace = read.traceparent
    if not trace:
        trace = switchboard.new_trace(switchboard.new_request_id() if read.request_id else request_id)
    return Checked(
        line,
        asked.stream,
        outgoing,
        b"%bx-request-id: %b\r\ntraceparent: %b\r\n" % (read.forwarded, request_id, trace),
        b"x-request-id: %b\r\n%b" % (request_id, model_line),
        request_id,
        caller,
        openai_shapes.user_of(asked.fields) if caller is ANYBODY and isinstance(asked, Asked) else "",
        read.patience,
        transcript,
    )


def _asked(surface: Surface, content_type: bytes, body: bytes | bytearray) -> Asked | Form | Refusal:
    if surface.is_form:
        if multipart.is_form(content_type):
            return multipart.read(content_type, body)
        return Refusal(415, "The Content-Type of the request must be multipart/form-data.", "unsupported_media_type")
    if headers.is_json(content_type):
        return openai_shapes.read(bytes(body))
    return Refusal(415, "The Content-Type of the request must be application/json.", "unsupported_media_type")


def _outgoing(body: bytes | bytearray, asked: Asked | Form, name: str | None) -> bytes | Pieces:
    """The body with another name in it, or as it came."""
    if isinstance(asked, Form):
        return multipart.whole(body) if name is None else multipart.with_model(body, asked, name)
    return bytes(body) if name is None else openai_shapes.with_model(bytes(body), name)
