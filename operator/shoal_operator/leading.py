"""The door to the Lease: hold it, know at every moment whether it is held, give it back."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from shoal_operator import lease_holding
from shoal_operator.api_faults import ApiFault, Unreachable
from shoal_operator.kinds import LEASE, Kind, Manifest
from shoal_operator.lease_holding import Sighting

log = logging.getLogger(__name__)


class LeaseDoor(Protocol):
    """What this needs of the Kubernetes API."""

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None: ...
    async def hold(self, kind: Kind, manifest: Manifest) -> Manifest: ...


class Leading:
    """One operator's part in the Lease. `ticks` never goes back and counts seconds, `clock` tells the time of day."""

    def __init__(
        self,
        namespace: str,
        name: str,
        identity: str,
        *,
        ticks: Callable[[], float],
        clock: Callable[[], datetime],
    ) -> None:
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._ticks = ticks
        self._clock = clock
        self._seen: Sighting | None = None
        self._renewed: float | None = None
        self.asked: float | None = None
        """When the Lease was last asked for, by `ticks`."""
        self.heard: float | None = None
        """When the API server last answered that, whatever it said."""

    def leads(self) -> bool:
        """Whether nobody else can hold the Lease at this moment."""
        return lease_holding.still_leads(self._renewed, self._ticks())

    async def win(self, door: LeaseDoor) -> None:
        """Return when this operator leads."""
        while True:
            if await self.step(door):
                return
            await asyncio.sleep(lease_holding.RENEW_SECONDS)

    async def keep(self, door: LeaseDoor) -> None:
        """Return when this operator does not lead any more."""
        while self.leads():
            await asyncio.sleep(lease_holding.RENEW_SECONDS)
            await self.step(door)

    async def step(self, door: LeaseDoor) -> bool:
        """Take or renew the Lease where that is right; whether this operator leads."""
        asked = self.asked = self._ticks()
        try:
            known = await door.get(LEASE, self._namespace, self._name)
            # An answer shows what was so just before it came, however long ago it was asked for: how long another has
            # been still counts from then on.
            self.heard = self._ticks()
            self._seen = lease_holding.sighting(known, self._seen, self.heard)
            if not lease_holding.may_take(self._seen, self._identity, self.heard):
                self._renewed = None
                return False
            written = await door.hold(LEASE, self._lease(known))
        except (Unreachable, ApiFault) as fault:
            is_lost_race = isinstance(fault, ApiFault) and fault.is_conflict
            if is_lost_race:
                self._renewed = None
            else:
                log.warning('reason=LeaseUnreachable because="%s"', fault)
            return self.leads()
        self._seen = lease_holding.sighting(written, None, asked)
        self._renewed = asked
        return True

    async def give_back(self, door: LeaseDoor) -> None:
        """Let another lead at once, when this one has stopped writing."""
        if not self.leads():
            return
        self._renewed = None
        try:
            known = await door.get(LEASE, self._namespace, self._name)
            if known is not None and known["spec"].get("holderIdentity") == self._identity:
                await door.hold(LEASE, self._lease(known, given_back=True))
        except (Unreachable, ApiFault) as fault:
            log.warning('reason=LeaseNotGivenBack because="%s"', fault)

    def _lease(self, known: Manifest | None, *, given_back: bool = False) -> Manifest:
        now = self._clock()
        return lease_holding.lease(self._namespace, self._name, self._identity, known, now, given_back=given_back)
