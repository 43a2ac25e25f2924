"""The realtime API as vLLM answers it: a WebSocket that takes sound and writes what it hears."""

import asyncio
import json
import secrets
import time
from collections.abc import Callable
from typing import Any

from shoal_serving import websocket
from shoal_serving.simulator.faults import Fault, Kind
from shoal_serving.simulator.journal import Entry
from shoal_serving.simulator.model import Model


def agreement(key: bytes) -> bytes:
    """The answer to the client's handshake."""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\ndate: x\r\nserver: uvicorn\r\n\r\n" % websocket.accept_key(key)
    )


class Session(asyncio.Protocol):
    """One session. It hears in any sound the text that the model writes to the number of its bytes."""

    def __init__(
        self, transport: Any, model: Model, entry: Entry, over: Callable[[], None], fault: Fault | None
    ) -> None:
        self._transport = transport
        self._model = model
        self._entry = entry
        self._over = over
        self._cut_after = fault.after if fault is not None and fault.kind is Kind.CUT else None
        self._frames = websocket.Splitter()
        self._is_named = self._listens = False
        self._heard = 0

    def begin(self, key: bytes) -> None:
        self._entry.status = 101
        self._transport.write(agreement(key))
        self._say({"type": "session.created", "id": f"sess-{secrets.token_hex(8)}", "created": int(time.time())})

    def data_received(self, data: bytes) -> None:
        for frame in self._frames.feed(data):
            match frame.opcode:
                case websocket.TEXT:
                    self._event(frame.payload)
                case websocket.PING:
                    self._transport.write(websocket.frame(websocket.PONG, frame.payload))
                case websocket.CLOSE:
                    self._end("finished")
                    self._transport.write(websocket.close_frame(websocket.NORMAL))
                    self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._end("aborted")

    def close(self) -> None:
        """The program ends."""
        self._transport.close()

    def _event(self, payload: bytes) -> None:
        try:
            event = json.loads(payload)
        except ValueError:
            self._say({"type": "error", "error": "Invalid JSON", "code": "invalid_json"})
            return
        match event.get("type"):
            case "session.update":
                self._name(event.get("model"))
            case "input_audio_buffer.append":
                self._heard += len(event.get("audio", "")) * 3 // 4
            case "input_audio_buffer.commit" if not self._is_named:
                sentence = "Model not validated. Make sure to validate the model by sending a session.update event."
                self._say({"type": "error", "error": sentence, "code": "model_not_validated"})
            case "input_audio_buffer.commit" if not event.get("final"):
                self._listens = True
            case "input_audio_buffer.commit":
                if self._listens:
                    self._listens = False
                    self._write()
            case other:
                self._say({"type": "error", "error": f"Unknown event type: {other}", "code": "unknown_event"})

    def _name(self, model: str | None) -> None:
        if model is None:
            self._say({"type": "error", "error": "Missing required field: model", "code": "invalid_event"})
        elif self._model.asked_for not in (None, model):
            sentence = f"The model `{model}` does not exist."
            self._say({"type": "error", "error": sentence, "code": "model_not_found"})
        else:
            self._is_named = True

    def _write(self) -> None:
        prompt = self._model.words.encode(f"{self._heard} bytes")
        (sequence,) = self._model.write([prompt], {}, self._model.knobs.answer_tokens)
        for piece in sequence.pieces:
            self._say({"type": "transcription.delta", "delta": piece})
        written = len(sequence.tokens)
        usage = {"prompt_tokens": len(prompt), "completion_tokens": written, "total_tokens": len(prompt) + written}
        self._say({"type": "transcription.done", "text": sequence.text, "usage": usage})

    def _say(self, event: dict[str, Any]) -> None:
        if self._cut_after is not None and self._entry.steps_sent >= self._cut_after:
            self._end("failed")
            self._transport.abort()
            return
        self._entry.steps_sent += 1
        self._transport.write(websocket.frame(websocket.TEXT, json.dumps(event).encode()))

    def _end(self, outcome: str) -> None:
        if self._entry.ended_at is None:
            self._entry.outcome, self._entry.ended_at = outcome, time.time()
            self._over()
