"""Decide and run the one real request that must succeed before a replica is ready."""

import asyncio
import io
import json
import wave
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from shoal_serving.replica.door import App, Message

_TEXT = "Hello"
_BOUNDARY = "shoal-self-test"


@dataclass(frozen=True, slots=True)
class Trial:
    """One request and how it is sent."""

    path: str
    body: bytes
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it; `reason` is empty when it succeeded."""

    status: int
    reason: str

    @property
    def succeeded(self) -> bool:
        return self.status == 200 and not self.reason


def trial_for(tasks: Collection[str], name: str) -> Trial | None:
    """The smallest request that makes the engine compute, by what it can do; None where nothing is known."""
    if "generate" in tasks:
        return _json("/v1/completions", model=name, prompt=_TEXT, max_tokens=1, temperature=0)
    if "embed" in tasks:
        return _json("/v1/embeddings", model=name, input=_TEXT)
    if "classify" in tasks:
        return _json("/classify", model=name, input=_TEXT)
    for task in ("token_embed", "token_classify", "embed&token_classify", "plugin"):
        if task in tasks:
            return _json("/pooling", model=name, input=_TEXT)
    if "transcription" in tasks:
        return _upload("/v1/audio/transcriptions", name, _silence())
    return None


async def run(app: App, trial: Trial) -> Outcome:
    """Send the trial through the app itself, as a client's request would go."""
    status, body = await _call(app, trial)
    return judge(status, body)


def judge(status: int, body: bytes) -> Outcome:
    """An answer counts when it is 200 and carries no error: a dying engine can answer 200 with an error inside."""
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    error = content.get("error") if isinstance(content, dict) else None
    if isinstance(error, dict):
        return Outcome(status, str(error.get("message") or error))
    if error:
        return Outcome(status, str(error))
    if status != 200:
        return Outcome(status, body[:500].decode(errors="replace").strip() or f"status {status}")
    return Outcome(status, "")


async def _call(app: App, trial: Trial) -> tuple[int, bytes]:
    answered = asyncio.Event()
    requests: list[Message] = [{"type": "http.request", "body": trial.body, "more_body": False}]
    status, chunks = 0, bytearray()

    async def receive() -> Message:
        if requests:
            return requests.pop()
        await answered.wait()  # a client that waits for its answer
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        elif message["type"] == "http.response.body":
            chunks.extend(message.get("body", b""))
            if not message.get("more_body", False):
                answered.set()

    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": trial.path,
        "raw_path": trial.path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [
            (b"host", b"localhost"),
            (b"content-type", trial.content_type.encode()),
            (b"content-length", str(len(trial.body)).encode()),
        ],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 0),
    }
    await app(scope, receive, send)
    return status, bytes(chunks)


def _json(path: str, **fields: object) -> Trial:
    return Trial(path, json.dumps(fields).encode())


def _upload(path: str, name: str, sound: bytes) -> Trial:
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="model"\r\n\r\n{name}\r\n'
    head += f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="silence.wav"\r\n'
    head += "Content-Type: audio/wav\r\n\r\n"
    body = head.encode() + sound + f"\r\n--{_BOUNDARY}--\r\n".encode()
    return Trial(path, body, f"multipart/form-data; boundary={_BOUNDARY}")


def _silence() -> bytes:
    target = io.BytesIO()
    with wave.open(target, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16_000)
        sound.writeframes(bytes(32_000))
    return target.getvalue()
