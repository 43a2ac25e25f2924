"""Where the gateways are: the pods behind their headless Service, listed anew every other second."""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

from shoal_operator import kinds
from shoal_operator.api_faults import ApiFault, Unreachable
from shoal_operator.cluster_world import Door
from shoal_operator.kinds import ENDPOINT_SLICE, Manifest
from shoal_operator.merging import Gateway

log = logging.getLogger(__name__)

LIST_SECONDS = 2.0
INTERNAL_PORT_NAME = "internal"
_SERVICE_LABEL = "kubernetes.io/service-name"


class GatewayPlaces:
    """The gateways as last listed; while the API server is away they stay as they were."""

    def __init__(self, door: Door, service: tuple[str, str]) -> None:
        """`service`: namespace and name."""
        self._door = door
        self._namespace, self._name = service
        self._known: tuple[Gateway, ...] = ()
        self._said = ""

    def known(self) -> tuple[Gateway, ...]:
        return self._known

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LIST_SECONDS)

    async def look(self) -> None:
        """List once. A watch would cost less, yet it would have to follow a namespace that may not be ours."""
        try:
            listing = await self._door.find_all(ENDPOINT_SLICE, self._namespace, f"{_SERVICE_LABEL}={self._name}")
        except (Unreachable, ApiFault) as fault:
            self._say(str(fault))
            return
        self._known = gateways(listing.objects)
        self._say("" if self._known else "it has no endpoint: see whether --gateway-service names the gateways")

    def _say(self, because: str) -> None:
        """Once for each cause."""
        if because and because != self._said:
            log.warning('service=%s/%s reason=NoGateways because="%s"', self._namespace, self._name, because)
        self._said = because


def gateways(slices: Iterable[Manifest]) -> tuple[Gateway, ...]:
    """All pods behind these slices, those too that are not Ready or leave: they may still hold requests."""
    found: dict[str, Gateway] = {}
    for manifest in sorted(slices, key=lambda one: (str(one.get("addressType", "")), kinds.name(one))):
        port = _port(manifest)
        for endpoint in manifest.get("endpoints") or []:
            target, addresses = endpoint.get("targetRef") or {}, endpoint.get("addresses") or []
            name = target.get("uid") or target.get("name")
            if not name or not addresses or port is None:
                continue
            gateway = Gateway(name, addresses[0], port, _is_ready(endpoint.get("conditions") or {}))
            # A pod may stand in two slices: for each family of addresses, or while it moves between them.
            if name not in found or (gateway.is_ready and not found[name].is_ready):
                found[name] = gateway
    return tuple(found.values())


def _port(manifest: Manifest) -> int | None:
    ports = {port.get("name"): port.get("port") for port in manifest.get("ports") or []}
    chosen = ports.get(INTERNAL_PORT_NAME, next(iter(ports.values()), None))
    return int(chosen) if chosen else None


def _is_ready(conditions: dict[str, Any]) -> bool:
    """`ready` is also said of a pod that is not, where its Service publishes those; `serving` tells of the pod."""
    return bool(conditions.get("serving", conditions.get("ready"))) and not conditions.get("terminating")
