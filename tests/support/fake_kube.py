"""An API server in small for the gateway's watch: real HTTP on loopback, lists in pages, watches, and every bad day."""

import asyncio
import contextlib
import copy
import json
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from facts import DEADLINE_SECONDS

MODELS = "modeldeployments"
SLICES = "endpointslices"


class FakeKube:
    """Runs in a thread with a loop of its own; its methods may be called from the test's."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[str] = []
        """Path and query of every request."""
        self.refuse: dict[str, int] = {}
        """By `list`, `watch` or a namespace: answer with this status."""
        self.garbage: dict[str, bytes] = {}
        """By `list` or `watch`: answer 200 with these bytes."""
        self.hangs: set[str] = set()
        """`list` or `watch`: accept the request and say nothing."""
        self._objects: dict[str, dict[tuple[str, str], dict[str, Any]]] = {MODELS: {}, SLICES: {}}
        self._history: list[tuple[int, str, str, dict[str, Any]]] = []
        self._version = 100
        self._oldest = 0
        self._pages: dict[str, list[dict[str, Any]]] = {}
        self._connections: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}
        self._changed: asyncio.Condition
        self._server: asyncio.Server
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    # -- what a test does

    def put(self, plural: str, found: dict[str, Any]) -> None:
        """Make an object or another one of it."""
        self._do(self._put(plural, copy.deepcopy(found)))

    def delete(self, plural: str, namespace: str, name: str) -> None:
        self._do(self._delete(plural, (namespace, name)))

    def forget(self) -> None:
        """Changes so far are no longer known: who watches from before gets 410."""
        self._do(self._forget())

    def cut(self) -> None:
        """Close every connection, in the middle of whatever was said."""
        self._do(self._cut())

    def go(self) -> None:
        """Away: the port is closed, too."""
        self._do(self._go())

    def come(self) -> None:
        """Back on the same port."""
        self._do(self._listen())

    def count(self, verb: str, plural: str = "") -> int:
        """How often it was asked so."""
        return sum((("watch=" in url) == (verb == "watch")) and plural in url for url in self.asked)

    def kubeconfig(self, folder: Path) -> Path:
        path = folder / "kubeconfig"
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "c",
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                    "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
                    "users": [{"name": "u", "user": {"token": "t"}}],
                }
            )
        )
        return path

    # -- inside its loop

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE_SECONDS)

    async def _put(self, plural: str, found: dict[str, Any]) -> None:
        meta = found["metadata"]
        key = (meta["namespace"], meta["name"])
        kind = "MODIFIED" if key in self._objects[plural] else "ADDED"
        self._objects[plural][key] = found
        await self._note(plural, kind, found)

    async def _delete(self, plural: str, key: tuple[str, str]) -> None:
        await self._note(plural, "DELETED", self._objects[plural].pop(key))

    async def _note(self, plural: str, kind: str, found: dict[str, Any]) -> None:
        self._version += 1
        found["metadata"]["resourceVersion"] = str(self._version)
        self._history.append((self._version, plural, kind, copy.deepcopy(found)))
        async with self._changed:
            self._changed.notify_all()

    async def _forget(self) -> None:
        self._version += 1
        self._oldest = self._version
        await self._cut()

    async def _cut(self) -> None:
        tasks = list(self._connections)
        for task in tasks:
            self._connections[task].transport.abort()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _go(self) -> None:
        self._server.close()
        await self._cut()

    async def _listen(self) -> None:
        self._changed = asyncio.Condition()
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await self._answer(head.split(b" ")[1].decode(), writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            del self._connections[task]
            writer.close()

    async def _answer(self, url: str, writer: asyncio.StreamWriter) -> None:
        self.asked.append(url)
        split = urlsplit(url)
        query = {name: values[0] for name, values in parse_qs(split.query).items()}
        steps = split.path.strip("/").split("/")
        plural, namespace = steps[-1], steps[4] if "namespaces" in steps else ""
        verb = "watch" if "watch" in query else "list"
        if verb in self.hangs:
            await asyncio.Event().wait()
        elif status := self.refuse.get(verb) or self.refuse.get(namespace):
            self._whole(writer, {"kind": "Status", "message": "as the test wishes", "code": status}, status)
        elif verb in self.garbage and verb == "list":
            self._whole(writer, self.garbage[verb])
        elif verb == "list":
            self._whole(writer, self._list(plural, namespace, query))
        else:
            await self._watch(writer, plural, namespace, query)
        await writer.drain()

    def _whole(self, writer: asyncio.StreamWriter, found: Any, status: int = 200) -> None:
        body = found if isinstance(found, bytes) else json.dumps(found).encode()
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)

    def _list(self, plural: str, namespace: str, query: dict[str, str]) -> dict[str, Any]:
        rest = self._pages.pop(query["continue"]) if "continue" in query else self._shown(plural, namespace, query)
        limit = int(query.get("limit", "1000000"))
        meta = {"resourceVersion": str(self._version)}
        if len(rest) > limit:
            meta["continue"] = f"{plural}-{len(rest)}"
            self._pages[meta["continue"]] = rest[limit:]
        return {"kind": "List", "metadata": meta, "items": rest[:limit]}

    def _shown(self, plural: str, namespace: str, query: dict[str, str]) -> list[dict[str, Any]]:
        found = self._objects[plural].values()
        return [item for item in found if _selected(item, namespace, query)]

    async def _watch(self, writer: asyncio.StreamWriter, plural: str, namespace: str, query: dict[str, str]) -> None:
        version = int(query["resourceVersion"])
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
        if version < self._oldest:
            gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
            _chunk(writer, json.dumps({"type": "ERROR", "object": gone}).encode() + b"\n")
        elif "watch" in self.garbage:
            _chunk(writer, self.garbage["watch"])
        else:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(float(query["timeoutSeconds"])):
                    await self._tell(writer, plural, namespace, query, version)
        writer.write(b"0\r\n\r\n")

    async def _tell(
        self, writer: asyncio.StreamWriter, plural: str, namespace: str, query: dict[str, str], version: int
    ) -> None:
        while not writer.transport.is_closing():
            for at, whose, kind, found in list(self._history):
                if at > version and whose == plural and _selected(found, namespace, query):
                    version = at
                    line = json.dumps({"type": kind, "object": found}).encode() + b"\n"
                    # In two pieces: a line may come in any.
                    _chunk(writer, line[:30])
                    _chunk(writer, line[30:])
            await writer.drain()
            async with self._changed:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), 0.05)


def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%b\r\n" % (len(data), data))


def _selected(found: dict[str, Any], namespace: str, query: dict[str, str]) -> bool:
    meta = found["metadata"]
    if namespace and meta["namespace"] != namespace:
        return False
    name, _, value = query.get("labelSelector", "").partition("=")
    return not name or meta.get("labels", {}).get(name) == value


@contextlib.contextmanager
def a_cluster() -> Iterator[FakeKube]:
    """A fake API server that listens."""
    kube = FakeKube()
    kube._thread.start()
    try:
        kube._do(kube._listen())
        yield kube
    finally:
        kube._do(kube._go())
        kube._loop.call_soon_threadsafe(kube._loop.stop)
        kube._thread.join(DEADLINE_SECONDS)
        kube._loop.close()
