"""The operator's own small web page: /livez, /readyz, /metrics."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from shoal_operator.fitness import Verdict

_REQUEST_SECONDS = 5.0
_HEAD_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Answers:
    """What is asked for when somebody asks."""

    is_live: Callable[[], Verdict]
    is_ready: Callable[[], Verdict]
    metrics: Callable[[], bytes]


async def serve(host: str, port: int, answers: Answers) -> asyncio.Server:
    """Listen until the server that is returned is closed. Raises OSError where that is not possible."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(_answer(head.split(b"\r\n", 1)[0], answers))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # nobody is there any more, or it does not speak HTTP
        finally:
            writer.close()

    return await asyncio.start_server(answer, host, port, limit=_HEAD_BYTES)


def _answer(request: bytes, answers: Answers) -> bytes:
    method, _, rest = request.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    if method not in (b"GET", b"HEAD"):
        return _response("405 Method Not Allowed", b"GET only\n")
    match path:
        case b"/livez":
            return _yes_or_no(answers.is_live())
        case b"/readyz":
            return _yes_or_no(answers.is_ready())
        case b"/metrics":
            return _response("200 OK", answers.metrics(), "text/plain; version=0.0.4; charset=utf-8")
    return _response("404 Not Found", b"/livez, /readyz and /metrics are here\n")


def _yes_or_no(verdict: Verdict) -> bytes:
    status = "200 OK" if verdict.holds else "503 Service Unavailable"
    return _response(status, f"{'ok' if verdict.holds else 'no'}: {verdict.because}\n".encode())


def _response(status: str, body: bytes, content_type: str = "text/plain; charset=utf-8") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
