"""A client in the cluster's network: sends requests by a schedule and writes down how each one ended, one line each.

`python ledger_client.py --url http://gateway/v1 --model m --rate 20 --seconds 60 --ledger FILE [--stream]`. It ends
when its seconds are over or when it gets SIGTERM, and waits for what it began; load is bounded by --rate × --seconds.
"""

import argparse
import asyncio
import json
import re
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import httpx2

DONE = "[DONE]"


@dataclass(slots=True)
class Entry:
    """One request and how it ended."""

    number: int
    began: float
    """Unix time, seconds."""
    first: float = 0.0
    """When its first token was there, of a whole answer all of it; 0: none came."""
    ended: float = 0.0
    status: int = 0
    outcome: str = "lost"
    """`ok`; `refused` (a whole error answer); `cut` (a stream that did not reach its end); `lost` (no answer)."""
    because: str = ""
    text: str = ""
    tokens: int = 0
    served_by: str = ""
    """The `x-shoal-model` header."""
    waited: float = 0.0
    """Seconds in the gateway until it was sent to a replica, as the gateway says."""


class Client:
    """Everything one run shares."""

    def __init__(self, options: argparse.Namespace, ledger: TextIO) -> None:
        self._options = options
        self._ledger = ledger
        self._headers = {"authorization": f"Bearer {options.key}"} if options.key else {}
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Send by the schedule, then wait for the last answer."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop.set)
        options = self._options
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=64)
        timeout = httpx2.Timeout(options.patience, connect=60)
        async with (
            httpx2.AsyncClient(limits=limits, timeout=timeout, trust_env=False) as http,
            asyncio.TaskGroup() as tasks,
        ):
            start = time.monotonic()
            for number in range(int(options.rate * options.seconds)):
                pause = start + number / options.rate - time.monotonic()
                if await self._stopped_within(pause):
                    break
                tasks.create_task(self._ask(http, number))

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(max(seconds, 0)):
                await self._stop.wait()
        except TimeoutError:
            pass
        return self._stop.is_set()

    async def _ask(self, http: httpx2.AsyncClient, number: int) -> None:
        entry = Entry(number, time.time())
        body: dict[str, Any] = {
            "model": self._options.model,
            "messages": [{"role": "user", "content": f"request {number}"}],
            "max_tokens": self._options.tokens,
            "temperature": 0,
            "ignore_eos": True,
        }
        try:
            if self._options.stream:
                await self._stream(http, entry, body | {"stream": True, "stream_options": {"include_usage": True}})
            else:
                await self._whole(http, entry, body)
        except httpx2.HTTPError as error:
            entry.because = f"{type(error).__name__}: {error}"
            entry.outcome = "cut" if entry.status == 200 else "lost"
        entry.ended = time.time()
        self._ledger.write(json.dumps(asdict(entry)) + "\n")
        self._ledger.flush()

    async def _whole(self, http: httpx2.AsyncClient, entry: Entry, body: dict[str, Any]) -> None:
        answer = await http.post(f"{self._options.url}/chat/completions", json=body, headers=self._headers)
        _note_head(entry, answer)
        if answer.status_code != 200:
            entry.outcome, entry.because = "refused", answer.text
            return
        said = answer.json()
        entry.text = said["choices"][0]["message"]["content"] or ""
        entry.tokens = said["usage"]["completion_tokens"]
        entry.outcome, entry.first = "ok", time.time()

    async def _stream(self, http: httpx2.AsyncClient, entry: Entry, body: dict[str, Any]) -> None:
        url = f"{self._options.url}/chat/completions"
        async with http.stream("POST", url, json=body, headers=self._headers) as answer:
            _note_head(entry, answer)
            if answer.status_code != 200:
                entry.outcome, entry.because = "refused", (await answer.aread()).decode()
                return
            entry.outcome, entry.because = "cut", "the stream ended without [DONE]"
            async for line in answer.aiter_lines():
                if line.startswith("data: ") and _read_event(entry, line.removeprefix("data: ")):
                    return


def _read_event(entry: Entry, data: str) -> bool:
    """Whether the stream is over, well or not."""
    if data == DONE:
        entry.outcome, entry.because = "ok", ""
        return True
    event = json.loads(data)
    if "error" in event:
        entry.because = json.dumps(event["error"])
        return True
    for choice in event["choices"]:
        entry.text += choice["delta"].get("content") or ""
        if entry.text and not entry.first:
            entry.first = time.time()
    if event.get("usage"):
        entry.tokens = event["usage"]["completion_tokens"]
    return False


def _note_head(entry: Entry, answer: httpx2.Response) -> None:
    entry.status = answer.status_code
    entry.served_by = answer.headers.get("x-shoal-model", "")
    waited = re.search(r"queue;dur=([0-9.]+)", answer.headers.get("server-timing", ""))
    entry.waited = float(waited[1]) / 1000 if waited else 0.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until the schedule is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="the address up to /v1")
    parser.add_argument("--key", default="")
    parser.add_argument("--model", required=True)
    parser.add_argument("--rate", type=float, default=10.0, help="requests begun per second")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long requests are begun")
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument(
        "--patience", type=float, default=300.0, help="seconds of silence after which a request is lost"
    )
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--ledger", type=Path, required=True)
    options = parser.parse_args(arguments)
    with options.ledger.open("w") as ledger:
        asyncio.run(Client(options, ledger).run())


if __name__ == "__main__":
    main()
