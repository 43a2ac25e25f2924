"""The gateway's door to Kubernetes: lists one resource and watches it, for ever.

Nothing here empties what is known: a list counts when its last page is read, and whatever fails leaves the old one.
A watch lives for a short time by the server's own clock, so one that says nothing at all is known to be dead shortly
after, whatever happened to the network in between.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes.aio import client, config

from shoal_api.labels import MANAGED_BY, MANAGED_BY_SHOAL
from shoal_api.modeldeployment import GROUP, PLURAL, VERSION

log = logging.getLogger(__name__)

PAGE = 250


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a watch may take for what; a lost one is noticed and begun anew within 30 s."""

    watch_seconds: int = 20
    """After so long the server ends a watch; it goes on where it was."""
    grace_seconds: float = 5.0
    """After that, before a watch that did not end is given up."""
    list_seconds: float = 20.0
    """For one page."""
    first_pause_seconds: float = 0.25
    longest_pause_seconds: float = 5.0
    barred_seconds: float = 10.0
    """A namespace whose objects are refused for so long, not just while new roles spread, is taken as closed to us."""
    shortest_watch_seconds: float = 1.0
    """A watch that ends sooner is followed by a pause: such a server is not asked a thousand times a second."""


class Loss(StrEnum):
    """Why a watch was begun anew; the label of a metric."""

    CLOSED = "Closed"
    """The connection broke in the middle."""
    SILENT = "Silent"
    """Nothing came, not even the end that the server owes."""
    EXPIRED = "Expired"
    """The server does not know the changes since then any more (410)."""
    REFUSED = "Refused"
    """The server answered with another error."""
    GARBAGE = "Garbage"
    """What the server sent could not be read."""
    UNREACHABLE = "Unreachable"
    """No connection, or no way to make one."""


class Lost(Exception):
    """A list or a watch ended before its time."""

    def __init__(self, loss: Loss, because: str, must_list: bool) -> None:
        super().__init__(because)
        self.loss = loss
        self.must_list = must_list


class NoCluster(Exception):
    """There is no way to the cluster from here; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Resource:
    """What is listed and watched; RBAC: get, list and watch of exactly these."""

    group: str
    version: str
    plural: str
    selector: str = ""


MODELS = Resource(GROUP, VERSION, PLURAL)
SLICES = Resource("discovery.k8s.io", "v1", "endpointslices", f"{MANAGED_BY}={MANAGED_BY_SHOAL}")


class Api:
    """Connections to one API server, made again when it does not know us any more."""

    def __init__(self, kubeconfig: Path | None) -> None:
        self._kubeconfig = kubeconfig
        self._client: client.ApiClient | None = None
        self._connecting = asyncio.Lock()

    async def get(self, resource: Resource, namespace: str, **query: Any) -> aiohttp.ClientResponse:
        """A request for the resource in one namespace, or in all of them."""
        async with self._connecting:
            if self._client is None:
                self._client = await self._connect()
            api = client.CustomObjectsApi(self._client)
        query.update(group=resource.group, version=resource.version, plural=resource.plural)
        if resource.selector:
            query["label_selector"] = resource.selector
        if namespace:
            return await api.list_namespaced_custom_object_without_preload_content(namespace=namespace, **query)
        return await api.list_cluster_custom_object_without_preload_content(**query)

    async def close(self) -> None:
        """Close every connection; the next request makes new ones, with credentials that are read anew."""
        if self._client is not None:
            old, self._client = self._client, None
            await old.close()

    async def _connect(self) -> client.ApiClient:
        chosen = client.Configuration()
        try:
            if self._kubeconfig is None:
                config.load_incluster_config(client_configuration=chosen)
            else:
                await config.load_kube_config(str(self._kubeconfig), client_configuration=chosen, persist_config=False)
        # A kubeconfig can be wrong in as many ways as there are libraries below this call.
        except Exception as error:
            source = self._kubeconfig or "the pod's service account"
            raise NoCluster(f"{source} does not lead to a cluster ({_short(error)})") from error
        return client.ApiClient(chosen)


@dataclass(frozen=True, slots=True)
class Feed:
    """Where it goes: full lists with their namespace, changes with whether they are deletions."""

    replace: Callable[[str, list[Any]], None]
    change: Callable[[Mapping[str, Any], bool], None]
    flush: Callable[[], None]


class Watch:
    """One resource in one namespace (or in all, `""`), kept up to date until cancelled."""

    def __init__(
        self,
        api: Api,
        resource: Resource,
        namespace: str,
        feed: Feed,
        clock: Callable[[], float],
        random: Callable[[], float],
        pace: Pace = Pace(),
    ) -> None:
        self.resource = resource
        self.lists = 0
        self.losses: dict[str, int] = {}
        self.heard_at: float | None = None
        self._api = api
        self._namespace = namespace
        self._feed = feed
        self._clock = clock
        self._random = random
        self._pace = pace
        self._barred_at: float | None = None
        self._version = ""
        self._said = ""

    @property
    def is_barred(self) -> bool:
        """Whether we have no right to this namespace, or it is no more: the others cannot wait for it."""
        barred = self._barred_at is not None and self._clock() - self._barred_at >= self._pace.barred_seconds
        return barred and bool(self._namespace)

    async def run(self) -> None:
        """List, watch, and begin again."""
        pause = 0.0
        while True:
            began = self._clock()
            try:
                if not self._version:
                    await self._list()
                    began = self._clock()
                await self._follow()
                is_short = self._clock() - began < self._pace.shortest_watch_seconds
                pause = self._pace.first_pause_seconds if is_short else 0.0
                self._said = ""
            except (Lost, NoCluster) as lost:
                self._note(lost)
                self._feed.flush()
                if isinstance(lost, Lost) and lost.must_list:
                    self._version = ""
                # One that was good for a while begins anew at once. One that fails again and again takes its time: a
                # full list is dear.
                if self._was_good_since(began):
                    pause = 0.0
                pause = min(max(pause * 2, self._pace.first_pause_seconds), self._pace.longest_pause_seconds)
            if pause:
                await asyncio.sleep(pause * (0.75 + self._random() / 2))

    def _was_good_since(self, began: float) -> bool:
        heard = self.heard_at is not None and self.heard_at >= began
        return heard and self._clock() - began > self._pace.longest_pause_seconds

    async def _list(self) -> None:
        found: list[Any] = []
        token: str | None = None
        while True:
            page = await self._page(token)
            items, meta = page.get("items"), page.get("metadata")
            if not isinstance(items, list) or not isinstance(meta, dict) or not meta.get("resourceVersion"):
                raise Lost(Loss.GARBAGE, "what should be a list is none", must_list=True)
            found += items
            token = meta.get("continue") or None
            if token is None:
                break
        self._version = str(meta["resourceVersion"])
        self.lists += 1
        self._feed.replace(self._namespace, found)
        self._feed.flush()

    async def _page(self, token: str | None) -> Mapping[str, Any]:
        async with self._asked(self._pace.list_seconds, limit=PAGE, _continue=token) as response:
            content = await response.read()
        try:
            page = json.loads(content)
        except ValueError as error:
            raise Lost(Loss.GARBAGE, f"the list is no JSON ({error})", must_list=True) from error
        if not isinstance(page, dict):
            raise Lost(Loss.GARBAGE, "what should be a list is none", must_list=True)
        return page

    async def _follow(self) -> None:
        """Changes since the version that is known, until the server ends the watch in its time."""
        async with self._asked(
            self._pace.watch_seconds + self._pace.grace_seconds,
            watch=True,
            allow_watch_bookmarks=True,
            resource_version=self._version,
            timeout_seconds=self._pace.watch_seconds,
        ) as response:
            rest = b""
            async for data in response.content.iter_any():
                self.heard_at = self._clock()
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    if line.strip():
                        self._take(line)
                self._feed.flush()
            if rest.strip():
                raise Lost(Loss.GARBAGE, "the watch ended in the middle of a line", must_list=True)

    def _take(self, line: bytes) -> None:
        try:
            event = json.loads(line)
            kind, found = event["type"], event["object"]
            if kind == "ERROR":
                code = found.get("code")
                loss = Loss.EXPIRED if code == 410 else Loss.REFUSED
                raise Lost(loss, f"{code}: {found.get('message', '')}", must_list=True)
            version = str(found["metadata"]["resourceVersion"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Lost(Loss.GARBAGE, f"an event cannot be read: {line[:80]!r}", must_list=True) from error
        if kind in ("ADDED", "MODIFIED", "DELETED"):
            self._feed.change(found, kind == "DELETED")
        self._version = version

    @contextlib.asynccontextmanager
    async def _asked(self, seconds: float, **query: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """A good answer, read within so many seconds; whatever else happens is Lost."""
        try:
            async with asyncio.timeout(seconds):
                response = await self._api.get(self.resource, self._namespace, **query)
                try:
                    await self._check(response)
                    yield response
                finally:
                    response.release()
        except TimeoutError as error:
            raise Lost(Loss.SILENT, f"nothing came within {seconds:g} s", must_list=False) from error
        except (aiohttp.ClientConnectorError, aiohttp.ServerConnectionError) as error:
            raise Lost(Loss.UNREACHABLE, _short(error), must_list=False) from error
        except (aiohttp.ClientError, OSError) as error:
            raise Lost(Loss.CLOSED, _short(error), must_list=False) from error

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        if response.status == 200:
            self.heard_at, self._barred_at = self._clock(), None
            return
        if response.status != 403:
            self._barred_at = None
        elif self._barred_at is None:
            self._barred_at = self._clock()
        because = f"{response.status}: {_message(await response.read())}"
        if response.status == 401:
            await self._api.close()
        if response.status == 410:
            raise Lost(Loss.EXPIRED, because, must_list=True)
        # Too many requests, or a server that starts, say nothing about what we know.
        raise Lost(Loss.REFUSED, because, must_list=response.status not in (429, 503))

    def _note(self, lost: Exception) -> None:
        loss = lost.loss if isinstance(lost, Lost) else Loss.UNREACHABLE
        self.losses[loss] = self.losses.get(loss, 0) + 1
        said = f"{loss} {lost}"
        if said != self._said:
            self._said = said
            where = f" namespace={self._namespace}" if self._namespace else ""
            log.warning("resource=%s%s reason=Watch%s because=%s", self.resource.plural, where, loss, lost)


def _message(content: bytes) -> str:
    """What a Status object says, else the beginning of the text."""
    try:
        return str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        return content[:80].decode("utf-8", "replace")


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
