"""The few events of the realtime API that the gateway reads or writes itself, and how a client asks for a session."""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from shoal_serving import websocket
from shoal_serving.gateway.errors import Refusal

LOOKED_INTO_MOST = 8 * 1024
"""A `session.update` is smaller; what is larger is sound, and passes without a look."""
_KEY_PROTOCOL = b"openai-insecure-api-key."
_PROTOCOL = b"realtime"

Lines = Iterable[tuple[bytes, bytes]]


class Handshake(NamedTuple):
    """A client's wish for a WebSocket."""

    key: bytes
    model: str | None
    protocol: bytes
    """Which one of the subprotocols is agreed on; empty where none was offered."""

    def answer(self, more: bytes = b"") -> bytes:
        """Yes; `more` are whole header lines."""
        chosen = b"sec-websocket-protocol: %b\r\n" % self.protocol if self.protocol else b""
        return (
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            b"sec-websocket-accept: %b\r\n%b%b\r\n" % (websocket.accept_key(self.key), chosen, more)
        )


def wants_websocket(lines: Lines) -> bool:
    """Whether the header lines (names in lower case) ask for it."""
    return any(name == b"upgrade" and value.strip().lower() == b"websocket" for name, value in lines)


def read(query: bytes, lines: Lines) -> Handshake | Refusal:
    """What the client asks for, or what is wrong with it."""
    given = dict(lines)
    key = given.get(b"sec-websocket-key", b"").strip()
    if given.get(b"sec-websocket-version", b"").strip() != b"13" or not websocket.is_key(key):
        return Refusal(400, "The WebSocket handshake needs version 13 and a valid key.", "invalid_websocket")
    models = parse_qs(query.decode("latin-1")).get("model", [])
    offered = _offered(given)
    return Handshake(key, models[0] if models else None, _PROTOCOL if _PROTOCOL in offered else b"")


def with_key(lines: Lines) -> list[tuple[bytes, bytes]]:
    """The header lines, and the API key that a browser can only send as a subprotocol."""
    found = list(lines)
    keys = [one.removeprefix(_KEY_PROTOCOL) for one in _offered(dict(found)) if one.startswith(_KEY_PROTOCOL)]
    return found + [(b"authorization", b"Bearer " + key) for key in keys]


def model_in(payload: bytes) -> str | None:
    """The model of a `session.update`; empty where it names none, None where the event is another."""
    event = _parsed(payload)
    if event is None or event.get("type") != "session.update":
        return None
    session = event.get("session")
    model = event.get("model") or (session.get("model") if isinstance(session, dict) else None)
    return model if isinstance(model, str) else ""


def with_model(payload: bytes, name: str) -> bytes:
    """The same `session.update` with another model."""
    return json.dumps({**(_parsed(payload) or {}), "model": name}).encode()


def update(name: str) -> bytes:
    """Tells an engine the model."""
    return json.dumps({"type": "session.update", "model": name}).encode()


def created(session_id: str) -> bytes:
    """The first event of a session, as an engine would send it."""
    return json.dumps({"type": "session.created", "id": session_id}).encode()


def error(message: str, code: str | None) -> bytes:
    """An error in the shape of the engine's own."""
    return json.dumps({"type": "error", "error": message, "code": code}).encode()


def _offered(given: dict[bytes, bytes]) -> list[bytes]:
    return [one.strip() for one in given.get(b"sec-websocket-protocol", b"").split(b",") if one.strip()]


def _parsed(payload: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
