"""Ask a cluster about a revision before an old one goes for it: nothing is made, and what is found is remembered."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from shoal_operator import kinds, preflight
from shoal_operator.api_faults import ApiFault
from shoal_operator.kinds import PRIORITY_CLASS, Kind, Listing, Manifest
from shoal_operator.surging import Classes, PriorityClass

log = logging.getLogger(__name__)

CLASSES_SECONDS = 60.0
PASSED_SECONDS = 60.0
"""So long what was found to be there is not asked for again."""


class AskingDoor(Protocol):
    """What this needs of the Kubernetes API."""

    async def find_all(self, kind: Kind, namespace: str | None, selector: str = "", fields: str = "") -> Listing: ...
    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None: ...
    async def rehearse(self, kind: Kind, manifest: Manifest) -> None: ...


@dataclass(frozen=True, slots=True)
class _Passed:
    revision: str
    until: datetime


class TryingOut:
    """Asks only while a revision replaces another."""

    def __init__(self, door: AskingDoor, clock: Callable[[], datetime]) -> None:
        self._door = door
        self._clock = clock
        self._classes: dict[str, PriorityClass] | None = None
        self._classes_until: datetime | None = None
        self._passed: dict[str, _Passed] = {}

    @property
    def classes(self) -> Classes | None:
        """The cluster's priority classes as last read; None where nobody may know them."""
        return self._classes

    async def read_classes(self) -> None:
        """Learn the priority classes, where that is some time ago."""
        now = self._clock()
        if self._classes_until is not None and now < self._classes_until:
            return
        self._classes_until = now + timedelta(seconds=CLASSES_SECONDS)
        try:
            found = (await self._door.find_all(PRIORITY_CLASS, None)).objects
        except ApiFault as fault:
            log.info('reason=PriorityClassesNotRead because="%s"', fault)  # an installation for some namespaces may not
            return
        self._classes = {
            kinds.name(each): PriorityClass(
                value=int(each.get("value", 0)),
                never_preempts=each.get("preemptionPolicy") == "Never",
                is_default=bool(each.get("globalDefault")),
            )
            for each in found
        }

    async def objections(self, uid: str, revision: str, new: Sequence[Manifest], old: Sequence[Manifest]) -> str:
        """What speaks against the pods of a new replica for which these old ones would go; nothing where all is well.

        `new` are pods with names that nothing has; the first of them is rehearsed.
        """
        passed, now = self._passed.get(uid), self._clock()
        if passed is not None and passed.revision == revision and now < passed.until:
            return ""
        found = preflight.misnamed_image(new[0]) or await self._missing(new[0]) or await self._refused(new, old)
        if not found:
            self._passed[uid] = _Passed(revision, now + timedelta(seconds=PASSED_SECONDS))
        return found

    def forget(self, uid: str) -> None:
        self._passed.pop(uid, None)

    async def _missing(self, pod: Manifest) -> str:
        where = kinds.namespace(pod)
        for need in preflight.needs(pod, pod["spec"].get("serviceAccountName", "")):
            try:
                found = await self._door.get(need.kind, where, need.name)
            except ApiFault as fault:
                log.info('reason=NotChecked because="%s %s: %s"', need.kind.name, need.name, fault)
                continue
            if lacking := preflight.lacking(need, found, where):
                return lacking
        return ""

    async def _refused(self, new: Sequence[Manifest], old: Sequence[Manifest]) -> str:
        """By whatever the API server asks about a pod: its account, classes, limits, quotas, policies."""
        try:
            await self._door.rehearse(kinds.POD, new[0])
        except ApiFault as fault:
            if preflight.is_quota(fault.message):
                return preflight.outgrown(fault.message, new, old)
            if fault.is_about_the_object and "dry run" not in fault.message:  # webhooks that know no such thing
                return f"the cluster would refuse its pods: {fault.message}"
        return ""
