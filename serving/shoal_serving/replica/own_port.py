"""The program's own view of its replica's port: is it free, does it answer, has everything been sent."""

import asyncio
import errno
import json
import secrets
import socket
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from shoal_api import proof
from shoal_api.replica_config import ReplicaConfig
from shoal_serving.replica.config import KeyFile
from shoal_serving.replica.door import HEALTH_PATH

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (compared with, not bound to)
_ESTABLISHED, _CLOSING = "01", ("04", "05", "08", "09", "0B")


class Answer(Enum):
    """What came of one look at the port."""

    READY = "ready"
    NOT_READY = "not ready"
    REFUSED = "refused"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class State:
    """What the door tells the program."""

    in_flight: int
    draining: bool


def is_taken(host: str, port: int) -> bool:
    """Whether somebody listens there already. Connections that linger from an earlier run do not count."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as visitor:
        visitor.settimeout(1)
        if visitor.connect_ex((_ANYWHERE.get(host, host), port)) == 0:
            return True
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            raise
    return False


class OwnPort:
    """Requests of the program to the app below it, each on a connection of its own."""

    def __init__(self, config: ReplicaConfig, key: bytes) -> None:
        self._host = _ANYWHERE.get(config.host, config.host)
        self._port = config.port
        self._uid = config.replica_uid
        self._key = key
        self._new_key = KeyFile(config).changed

    async def look(self, patience_seconds: float) -> Answer:
        try:
            status, _ = await asyncio.wait_for(self._ask("GET", HEALTH_PATH), patience_seconds)
        except TimeoutError:
            return Answer.SILENT
        except OSError:
            return Answer.REFUSED
        return Answer.READY if status == 200 else Answer.NOT_READY

    async def begin_drain(self, patience_seconds: float) -> State | None:
        return await self._state("POST", proof.DRAIN_PATH, patience_seconds)

    async def state(self, patience_seconds: float) -> State | None:
        return await self._state("GET", proof.STATE_PATH, patience_seconds)

    def has_unsent(self) -> bool:
        """Whether the kernel still holds bytes of answers that a client has not taken: the process must not end yet."""
        return any(
            unsent
            for family in ("tcp", "tcp6")
            for unsent in unsent_bytes(Path(f"/proc/self/net/{family}"), self._port)
        )

    async def _state(self, method: str, path: str, patience_seconds: float) -> State | None:
        try:
            status, body = await asyncio.wait_for(self._ask(method, path), patience_seconds)
        except (TimeoutError, OSError):
            return None
        if status != 200:
            return None
        content: dict[str, Any] = json.loads(body)
        return State(int(content["inFlight"]), bool(content["draining"]))

    def _mac(self) -> str:
        self._key = self._new_key() or self._key
        return proof.request_mac(self._key, secrets.token_hex(proof.NONCE_CHARACTERS // 2), self._uid)

    async def _ask(self, method: str, path: str) -> tuple[int, bytes]:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            head = f"{method} {path} HTTP/1.1\r\nhost: {self._host}\r\ncontent-length: 0\r\nconnection: close\r\n"
            writer.write(f"{head}{proof.MAC_HEADER}: {self._mac()}\r\n\r\n".encode())
            answer = await reader.read(65_536)
            while chunk := await reader.read(65_536):
                answer += chunk
        finally:
            writer.close()
        line, _, rest = answer.partition(b"\r\n")
        if not line.startswith(b"HTTP/1."):
            raise ConnectionResetError("no HTTP answer")
        return int(line.split()[1]), rest.partition(b"\r\n\r\n")[2]


def unsent_bytes(table: Path, port: int) -> list[int]:
    """Bytes in the send queue of each connection on `port`, from the kernel's table."""
    try:
        lines = table.read_text().splitlines()[1:]
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        _, local, _, state, queues, *_ = line.split()
        if int(local.rpartition(":")[2], 16) == port and state in (_ESTABLISHED, *_CLOSING):
            found.append(int(queues.partition(":")[0], 16))
    return found
