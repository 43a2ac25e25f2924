"""Complaints: an operator that may not read Events or nodes knows less and goes on."""

import asyncio
from datetime import UTC, datetime, timedelta

from shoal_operator.api_faults import ApiFault
from shoal_operator.complaints import FIRST_SECONDS, Complaints
from shoal_operator.kinds import Kind, Listing, Manifest

CREATED = datetime(2026, 1, 1, tzinfo=UTC)
HELD: Manifest = {
    "metadata": {"uid": "u-1", "name": "m-1-0", "namespace": "ns", "creationTimestamp": "2026-01-01T00:00:00Z"},
    "spec": {"nodeName": "node1"},
    "status": {"containerStatuses": [{"name": "engine", "state": {"waiting": {"reason": "ContainerCreating"}}}]},
}
UNSCHEDULED: Manifest = {
    "metadata": {**HELD["metadata"], "uid": "u-2"},
    "spec": {},
    "status": {
        "conditions": [{"type": "PodScheduled", "status": "False", "message": "1 Insufficient example.com/npu."}]
    },
}


class Forbidden:
    async def find_all(self, kind: Kind, namespace: str | None, selector: str = "", fields: str = "") -> Listing:
        raise ApiFault(403, f"cannot list {kind.plural}")


def test_what_may_not_be_read_is_not_told_and_stops_nothing() -> None:
    now = CREATED + timedelta(seconds=FIRST_SECONDS)
    complaints = Complaints(Forbidden(), lambda: now)

    asyncio.run(complaints.listen([HELD, UNSCHEDULED]))

    assert complaints.mount_words() == {}
    assert complaints.largest_gpus() is None
    assert complaints.asks_at([HELD])[0] > now, "asked again later, not at once"
