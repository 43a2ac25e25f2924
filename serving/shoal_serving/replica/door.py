"""The replica's door: around the engine's own app, it proves, checks, counts, refuses and drains (semantics: Hello)."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, Protocol

from shoal_api import proof
from shoal_serving.replica.admission import Admission, Refusal
from shoal_serving.replica.refusals import ANSWERS, BAD_NONCE

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

HEALTH_PATH = "/health"

_UNCOUNTED = frozenset({"/metrics"})
"""Looking at the replica is no load on it."""
_GRACE_SECONDS = 5.0
"""For a request whose client left, to end by itself."""


class Truth(Protocol):
    """What the door asks about the engine behind it."""

    def is_ready(self) -> bool:
        """A real request has succeeded since the engine started, and the engine's own check does not fail."""


class Door:
    """Everything that enters or leaves the engine passes here."""

    def __init__(self, app: App, admission: Admission, truth: Truth, clock: Callable[[], float]) -> None:
        self._app = app
        self._admission = admission
        self._truth = truth
        self._clock = clock

    @property
    def ready(self) -> bool:
        return self._admission.draining_since is None and self._truth.is_ready()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        headers = _ours(scope["headers"])
        if scope["type"] == "http":
            if path == HEALTH_PATH:
                await self._health(send)
                return
            if path == proof.HELLO_PATH:
                await self._hello(headers, send)
                return
        refusal = self._refusal(path, headers)
        if refusal is not None:
            await _refuse(scope, send, refusal)
        elif path == proof.STATE_PATH:
            await _answer(send, 200, self._state())
        elif path == proof.DRAIN_PATH and scope.get("method") == "POST":
            self._admission.begin_drain(self._clock())
            await _answer(send, 200, self._state())
        elif path in _UNCOUNTED:
            await self._app(scope, receive, send)
        else:
            self._admission.in_flight += 1
            try:
                await _to_its_end(self._app(scope, receive, send))
            finally:
                self._admission.in_flight -= 1

    def _refusal(self, path: str, headers: Mapping[str, str]) -> Refusal | None:
        mac = headers.get(proof.MAC_HEADER, "")
        if path in (proof.STATE_PATH, proof.DRAIN_PATH) or path in _UNCOUNTED:
            return None if self._admission.knows(mac) else "misdirected"
        return self._admission.refusal(mac, headers.get(proof.LIMIT_HEADER, ""), self._clock())

    async def _health(self, send: Send) -> None:
        await _answer(send, 200 if self.ready else 503, {"ready": self.ready})

    async def _hello(self, headers: Mapping[str, str], send: Send) -> None:
        answer = self._admission.answer_hello(headers.get(proof.NONCE_HEADER, ""))
        if answer is None:
            await _answer(send, BAD_NONCE.status, BAD_NONCE.body)
            return
        await _answer(send, 200, {}, [(proof.PROOF_HEADER, answer)])

    def _state(self) -> dict[str, Any]:
        return {
            "inFlight": self._admission.in_flight,
            "draining": self._admission.draining_since is not None,
            "ready": self.ready,
        }


async def _to_its_end(serving: Awaitable[None]) -> None:
    """Serve tells that the client left by a message and, at the same moment, by a cancellation. vLLM listens for the
    message and ends its request; under the cancellation it would stop listening, and the engine would write on."""
    task = asyncio.ensure_future(serving)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            await asyncio.wait((task,), timeout=_GRACE_SECONDS)
        task.cancel()
        raise


def _ours(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers between gateway and replica; of two equal ones the first counts."""
    found: dict[str, str] = {}
    for name, value in headers:
        if name.startswith(b"x-shoal-"):
            found.setdefault(name.decode("latin-1"), value.decode("latin-1"))
    return found


async def _refuse(scope: Scope, send: Send, refusal: Refusal) -> None:
    answer = ANSWERS[refusal]
    if scope["type"] == "http":
        await _answer(send, answer.status, answer.body, answer.headers)
    elif "websocket.http.response" in (scope.get("extensions") or {}):
        await _answer(send, answer.status, answer.body, answer.headers, prefix="websocket.http")
    else:
        await send({"type": "websocket.close", "code": 1013, "reason": answer.body["error"]["code"]})


async def _answer(
    send: Send, status: int, body: object, headers: Sequence[tuple[str, str]] = (), prefix: str = "http"
) -> None:
    content = json.dumps(body).encode()
    fields = [("content-type", "application/json"), ("content-length", str(len(content))), *headers]
    await send(
        {
            "type": f"{prefix}.response.start",
            "status": status,
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields],
        }
    )
    await send({"type": f"{prefix}.response.body", "body": content})
