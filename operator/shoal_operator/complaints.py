"""What the cluster says about pods that wait, beside their status: kubelet about volumes, nodes about their GPUs."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from shoal_operator import hindrances, kinds, pod_facts
from shoal_operator.api_faults import ApiFault
from shoal_operator.kinds import EVENT, NODE, Kind, Listing, Manifest

log = logging.getLogger(__name__)

FIRST_SECONDS = 5.0
"""A pod that waits no longer than this is on its way."""
AGAIN_SECONDS = 30.0
_NODES_SECONDS = 60.0
_MOUNTING = frozenset({"FailedMount", "FailedAttachVolume", "FailedMapVolume"})


class ListingDoor(Protocol):
    """What this needs of the Kubernetes API."""

    async def find_all(self, kind: Kind, namespace: str | None, selector: str = "", fields: str = "") -> Listing: ...


@dataclass(frozen=True, slots=True)
class _Heard:
    words: str
    asked_again_at: datetime


class Complaints:
    """Asks only about pods that wait for long, and not often."""

    def __init__(self, door: ListingDoor, clock: Callable[[], datetime]) -> None:
        self._door = door
        self._clock = clock
        self._heard: dict[str, _Heard] = {}
        self._gpus: dict[str, int] | None = None
        self._nodes_read_at: datetime | None = None

    async def listen(self, pods: Iterable[Manifest]) -> None:
        """Learn what is said about these pods, where it is time to ask."""
        now = self._clock()
        for pod in pods:
            uid = kinds.uid(pod)
            if not pod_facts.is_held(pod):
                self._heard.pop(uid, None)
            elif now >= self._ask_at(pod):
                words = await self._mount_words(pod)
                self._heard[uid] = _Heard(words, now + timedelta(seconds=AGAIN_SECONDS))
            if hindrances.missing_resources(pod):
                await self._read_nodes(now)

    def mount_words(self) -> dict[str, str]:
        """By the pod's UID."""
        return {uid: heard.words for uid, heard in self._heard.items() if heard.words}

    def largest_gpus(self) -> dict[str, int] | None:
        """How many of each resource the node has that has most of it; None where nobody may know."""
        return self._gpus

    def asks_at(self, pods: Iterable[Manifest]) -> tuple[datetime, ...]:
        """When there will be something to ask about these pods."""
        return tuple(self._ask_at(pod) for pod in pods if pod_facts.is_held(pod))

    def forget(self, pods: Iterable[Manifest]) -> None:
        for pod in pods:
            self._heard.pop(kinds.uid(pod), None)

    def _ask_at(self, pod: Manifest) -> datetime:
        heard = self._heard.get(kinds.uid(pod))
        if heard is not None:
            return heard.asked_again_at
        created = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
        return created + timedelta(seconds=FIRST_SECONDS)

    async def _mount_words(self, pod: Manifest) -> str:
        fields = f"involvedObject.uid={kinds.uid(pod)},type=Warning"
        try:
            events = (await self._door.find_all(EVENT, kinds.namespace(pod), fields=fields)).objects
        except ApiFault as fault:
            log.warning('pod=%s reason=EventsNotRead because="%s"', kinds.name(pod), fault)
            return ""
        said = [event for event in events if event.get("reason") in _MOUNTING]
        latest = max(
            said, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""), default={}
        )
        return str(latest.get("message", "")).rstrip(".")

    async def _read_nodes(self, now: datetime) -> None:
        if self._nodes_read_at is not None and now - self._nodes_read_at < timedelta(seconds=_NODES_SECONDS):
            return
        self._nodes_read_at = now
        try:
            nodes = (await self._door.find_all(NODE, None)).objects
        except ApiFault as fault:
            log.info('reason=NodesNotRead because="%s"', fault)  # an installation for some namespaces may not
            return
        most: dict[str, int] = {}
        for node in nodes:
            for resource, amount in node.get("status", {}).get("allocatable", {}).items():
                if "/" in resource and str(amount).isdecimal():
                    most[resource] = max(most.get(resource, 0), int(amount))
        self._gpus = most
