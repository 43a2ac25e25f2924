"""The one door to the Kubernetes API: plain JSON objects in and out, written as field manager `shoal`."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import yaml
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from shoal_operator import kinds
from shoal_operator.api_faults import ApiFault, NotLeading, Unreachable
from shoal_operator.kinds import POD, Kind, Listing, Manifest
from shoal_operator.settings import BadSettings

FIELD_MANAGER = "shoal"
WRITE_SECONDS = 5.0
"""A write that is not answered by then is given up; the Lease relies on it."""
READ_SECONDS = 30.0
_LATER = frozenset({429, 500, 502, 503, 504})
_JSON = "application/json"
_MERGE = "application/merge-patch+json"
_APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True, slots=True)
class Connection:
    """How another client reaches the same API server."""

    server: str
    ca_path: str | None
    certificate_path: str | None
    private_key_path: str | None
    authorization: str
    """Scheme and token, or nothing."""
    is_verified: bool


async def configuration(kubeconfig: Path | None) -> Configuration:
    """Where the API server is: by this file; without one in the cluster as its pods see it, else by ~/.kube/config."""
    found = Configuration()
    try:
        if kubeconfig is None:
            try:
                load_incluster_config(client_configuration=found)
            except ConfigException:
                await load_kube_config(client_configuration=found)
        else:
            await load_kube_config(str(kubeconfig), client_configuration=found, persist_config=False)
    except (ConfigException, OSError, yaml.YAMLError, ValueError, TypeError) as error:
        named = f"--kubeconfig {kubeconfig}" if kubeconfig else "--kubeconfig is not given and ~/.kube/config"
        raise BadSettings(f"{named}: cannot be used ({error}); name a file that kubectl can use") from error
    return found


class Cluster:
    """One API server. Every call raises Unreachable or ApiFault; writes raise NotLeading where they may not be made."""

    def __init__(
        self,
        found: Configuration,
        may_write: Callable[[], bool],
        on_call: Callable[[str], None] = lambda _: None,
        field_manager: str = FIELD_MANAGER,
    ) -> None:
        """`on_call` hears of every call that goes out: read, write or lease; writes are known as `field_manager`'s."""
        self._configuration = found
        self._client = ApiClient(found)
        self._may_write = may_write
        self._on_call = on_call
        self._field_manager = field_manager

    async def close(self) -> None:
        await self._client.close()

    async def connection(self) -> Connection:
        """For the framework that watches."""
        found = self._configuration
        return Connection(
            server=found.host,
            ca_path=found.ssl_ca_cert,
            certificate_path=found.cert_file,
            private_key_path=found.key_file,
            authorization=await found.get_api_key_with_prefix("BearerToken") or "",
            is_verified=bool(found.verify_ssl),
        )

    async def find_all(self, kind: Kind, namespace: str | None, selector: str = "", fields: str = "") -> Listing:
        """All objects of the kind that the selectors (of labels and of fields) choose, as they are now."""
        chosen = {"labelSelector": selector, "fieldSelector": fields}
        answer = await self._read(kind.path(namespace), {key: value for key, value in chosen.items() if value})
        # A list says once what its items are.
        found = [{"apiVersion": kind.api_version, "kind": kind.name, **item} for item in answer["items"]]
        return Listing(found, kinds.version(answer))

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        """One object; None where there is none."""
        try:
            return await self._read(kind.path(namespace, name), {})
        except ApiFault as fault:
            if fault.status == 404:
                return None
            raise

    async def read(self, path: str) -> Manifest:
        """What the API server says at a path of its own, such as `/version`."""
        return await self._read(path, {})

    async def ask(self, kind: Kind, review: Manifest) -> Manifest:
        """Have a review (who may do what) answered; nothing is written by it."""
        self._on_call("read")
        return await self._call("POST", kind.path(), {}, review, _JSON, READ_SECONDS)

    async def log(self, namespace: str, pod: str, query: Mapping[str, str]) -> AsyncIterator[str]:
        """The log of a pod, line by line; with `follow` as long as it lasts."""
        self._on_call("read")
        path = f"{POD.path(namespace, pod)}/log"
        # Without a number of its own a request has five minutes.
        timeout = aiohttp.ClientTimeout(total=None if "follow" in query else READ_SECONDS, sock_connect=READ_SECONDS)
        response = await self._send("GET", path, query, None, _JSON, timeout)
        rest = b""
        try:
            if response.status >= 400:
                raise ApiFault(response.status, _message(await response.read()))
            # A line may be as long as a prompt, and longer than what the reader takes for one.
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield line.decode(errors="replace")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _unreachable("GET", path, error) from error
        finally:
            response.close()
        if rest:
            yield rest.decode(errors="replace")

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Make it; ApiFault with is_conflict where the name is taken."""
        return await self._write("POST", kind.path(manifest["metadata"]["namespace"]), manifest, _JSON)

    async def rehearse(self, kind: Kind, manifest: Manifest) -> None:
        """Have everything asked that making it would ask, and make nothing; ApiFault where it would be refused."""
        query = {"dryRun": "All"}
        await self._write("POST", kind.path(manifest["metadata"]["namespace"]), manifest, _JSON, query)

    async def apply(self, kind: Kind, manifest: Manifest, subresource: str = "") -> Manifest:
        """Make it so, by server-side apply: what others set in it and we never named stays theirs."""
        where = manifest["metadata"]
        path = kind.path(where["namespace"], where["name"], subresource)
        return await self._write("PATCH", path, manifest, _APPLY, {"force": "true"})

    async def replace(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Write it whole; ApiFault with is_conflict where somebody else did since it was read."""
        where = manifest["metadata"]
        return await self._write("PUT", kind.path(where["namespace"], where["name"]), manifest, _JSON)

    async def patch(self, kind: Kind, namespace: str, name: str, change: Manifest) -> Manifest:
        """Change these fields of an object that exists."""
        return await self._write("PATCH", kind.path(namespace, name), change, _MERGE)

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str, grace_seconds: int | None = None) -> None:
        """Remove this very object; nothing where it is gone, even if another has its name by now."""
        options: Manifest = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        try:
            await self._write("DELETE", kind.path(namespace, name), options, _JSON)
        except ApiFault as fault:
            if fault.status not in (404, 409):
                raise

    async def hold(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Write a Lease: made where it has no resource version, else replaced if nobody else did meanwhile."""
        where = manifest["metadata"]
        known = "resourceVersion" in where
        path = kind.path(where["namespace"], where["name"] if known else "")
        self._on_call("lease")
        return await self._call("PUT" if known else "POST", path, self._query({}), manifest, _JSON, WRITE_SECONDS)

    def _query(self, more: Mapping[str, str]) -> dict[str, str]:
        return {"fieldManager": self._field_manager} | dict(more)

    async def _read(self, path: str, query: Mapping[str, str]) -> Manifest:
        self._on_call("read")
        return await self._call("GET", path, query, None, _JSON, READ_SECONDS)

    async def _write(
        self, method: str, path: str, body: Manifest, content_type: str, query: Mapping[str, str] | None = None
    ) -> Manifest:
        if not self._may_write():
            raise NotLeading
        self._on_call("write")
        asked = {} if method == "DELETE" else self._query(query or {})
        return await self._call(method, path, asked, body, content_type, WRITE_SECONDS)

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Manifest | None,
        content_type: str,
        seconds: float,
    ) -> Manifest:
        response = await self._send(method, path, query, body, content_type, seconds)
        try:
            text = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _unreachable(method, path, error) from error
        if response.status in _LATER:
            raise Unreachable(f"{method} {path}: {response.status} {_message(text)}")
        if response.status >= 400:
            raise ApiFault(response.status, _message(text))
        answer: Manifest = json.loads(text)
        return answer

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Manifest | None,
        content_type: str,
        timeout: float | aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": _JSON, "Content-Type": content_type, "User-Agent": "shoal"}
        url = self._configuration.host + path + (f"?{urlencode(query)}" if query else "")
        try:
            await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
            answer = await self._client.rest_client.request(
                method, url, headers=headers, body=body, _request_timeout=timeout
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _unreachable(method, path, error) from error
        response: aiohttp.ClientResponse = answer.response
        return response


def _unreachable(method: str, path: str, error: Exception) -> Unreachable:
    return Unreachable(f"{method} {path}: {type(error).__name__} {error}".rstrip())


def _message(text: bytes) -> str:
    try:
        said: Any = json.loads(text)
    except ValueError:
        said = None
    if isinstance(said, dict) and said.get("message"):
        return str(said["message"])
    return text[:300].decode(errors="replace")
