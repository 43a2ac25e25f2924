"""Check a request whose body is there, in the order of semantics.md, up to the model that it means."""

from typing import TYPE_CHECKING, NamedTuple

from shoal_serving.gateway import headers, openai_shapes
from shoal_serving.gateway.errors import Refusal

if TYPE_CHECKING:
    from shoal_serving.gateway.switchboard import Line, Switchboard


class Checked(NamedTuple):
    """A request that has a model: what goes to an engine, and what is said of it to the client."""

    line: "Line"
    stream: bool
    body: bytes
    engine_lines: bytes
    """Header lines for the engine, without what belongs to the connection."""
    client_lines: bytes
    """Header lines that every answer to this request has."""
    request_id: bytes


def check(switchboard: "Switchboard", read: headers.Request, request_id: bytes, body: bytes) -> Checked | Refusal:
    """The request with its model, or why it is refused. `body` is read whole; only the value of `model` may change."""
    if not headers.is_json(read.content_type):
        return Refusal(415, "The Content-Type of the request must be application/json.", "unsupported_media_type")
    asked = openai_shapes.read(body)
    if isinstance(asked, Refusal):
        return asked
    route = switchboard.table.by_name.get(asked.model)
    if route is None:
        return switchboard.not_found(asked.model)
    line = switchboard.line_of(route)
    if asked.model == route.served_name:
        model_line = line.canonical_line
    else:
        model_line = line.alias_line
        body = openai_shapes.with_model(body, route.served_name)
    trace = read.traceparent
    if not trace:
        trace = switchboard.new_trace(switchboard.new_request_id() if read.request_id else request_id)
    return Checked(
        line,
        asked.stream,
        body,
        b"%bx-request-id: %b\r\ntraceparent: %b\r\n" % (read.forwarded, request_id, trace),
        b"x-request-id: %b\r\n%b" % (request_id, model_line),
        request_id,
    )
