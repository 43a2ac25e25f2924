"""Decide who leads: one operator holds the Lease, another takes it over when its holder has been still for too long."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

DURATION_SECONDS = 15.0
"""A Lease that nobody renewed for so long is free."""
RENEW_SECONDS = 2.0
STOP_SECONDS = 8.0
"""A leader that could not renew for so long writes nothing more: what it began ends before the Lease is free."""

_NANOSECOND_FORM = "%Y-%m-%dT%H:%M:%S.%fZ"


@dataclass(frozen=True, slots=True)
class Sighting:
    """A state of the Lease, and when by our own clock it was first seen: clocks of two machines are not compared."""

    version: str
    holder: str
    first_seen: float


def sighting(lease: dict[str, Any] | None, before: Sighting | None, now: float) -> Sighting:
    """What is seen now; one that did not change keeps the time when it was first seen."""
    version = str(lease["metadata"]["resourceVersion"]) if lease else ""
    if before is not None and before.version == version:
        return before
    return Sighting(version, str((lease or {}).get("spec", {}).get("holderIdentity") or ""), now)


def may_take(seen: Sighting, identity: str, now: float) -> bool:
    """Whether the Lease is ours, nobody's, or its holder has been still for too long."""
    return seen.holder in ("", identity) or now - seen.first_seen >= DURATION_SECONDS


def still_leads(renewed: float | None, now: float) -> bool:
    """Whether the last renewal, counted from when it was asked for, is fresh enough to write."""
    return renewed is not None and now - renewed < STOP_SECONDS


def lease(
    namespace: str, name: str, identity: str, before: dict[str, Any] | None, now: datetime, *, given_back: bool = False
) -> dict[str, Any]:
    """The Lease as its new holder writes it; given back, it is free at once."""
    spec = dict((before or {}).get("spec", {}))
    moment = now.strftime(_NANOSECOND_FORM)
    if spec.get("holderIdentity") != identity:
        spec["acquireTime"] = moment
        spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + (1 if before else 0)
    spec |= {
        "holderIdentity": "" if given_back else identity,
        "leaseDurationSeconds": 1 if given_back else int(DURATION_SECONDS),
        "renewTime": moment,
    }
    metadata = {"namespace": namespace, "name": name}
    if before is not None:
        metadata["resourceVersion"] = before["metadata"]["resourceVersion"]
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
