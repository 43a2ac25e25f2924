"""Decide which revision an owner comes back to, and what the spec is then."""

import copy
from collections.abc import Sequence
from typing import Any

from shoal_api import labels, modeldeployment
from shoal_api.conditions import Reason
from shoal_api.rules import BadManifest
from shoal_operator import kinds, objects, pod_facts, rendering
from shoal_operator.api_faults import NotThere
from shoal_operator.kinds import Manifest

_NOT_TAKEN = frozenset({Reason.INVALID_SPEC, Reason.NOT_BUILT})
"""With these the status still tells the revision before."""
_WHOLE_PARTS = ("engine", "parallelism", "resources", "scheduling", "podTemplate")


def asked_for(model: Manifest) -> list[str]:
    """The revision that the spec asks for, as this program and, where it has seen the spec, the operator name it."""
    status = model.get("status", {})
    progress: dict[str, Any] = next((c for c in status.get("conditions", []) if c["type"] == "Progressing"), {})
    is_seen = status.get("observedGeneration") == model["metadata"].get("generation")
    names = []
    if is_seen and status.get("revision") and progress.get("reason") not in _NOT_TAKEN:
        names.append(status["revision"])
    try:
        names.append(_revision(model))
    except BadManifest:  # an older version's field, or a newer one's: it is another revision in any case
        pass
    return names


def earlier(records: Sequence[Manifest], current: Sequence[str], asked: str = "") -> Manifest:
    """The record of the revision to come back to: the one that is asked for, else the newest that worked before."""
    by_age = pod_facts.by_number(records)
    if asked:
        found = next((record for record in by_age if kinds.revision(record) == asked), None)
        if found is None:
            known = ", ".join(kinds.revision(record) for record in by_age)
            raise NotThere(f"--to {asked}: there is no record of this revision; there are {known}")
        return found
    worked = [
        record
        for record in by_age
        if kinds.revision(record) not in current
        and kinds.annotation(record, labels.PROVEN) == "true"
        and not kinds.annotation(record, labels.CANARY)
        and not kinds.annotation(record, labels.FAULT)
    ]
    if not worked:
        raise NotThere(f"no other revision than {' '.join(current[:1])} ever worked, so there is none to come back to")
    return worked[-1]


def manifest(model: Manifest, record: Manifest) -> Manifest:
    """The model with the spec of that revision; what makes no revision (scaling, queue, aliases …) stays as it is."""
    name = kinds.revision(record)
    made_from = record.get("data", {}).get(objects.MADE_FROM)
    if made_from is None:
        raise NotThere(
            f"the record of revision {name} was kept by an older version of Shoal, which kept no spec: apply the "
            "manifest of that time"
        )
    changed = copy.deepcopy(model)
    changed["spec"] = _spec(model["spec"], made_from, kinds.name(model))
    try:
        found = _revision(changed)
    except BadManifest as bad:
        raise NotThere(f"revision {name} does not go with the rest of the spec: {bad}") from bad
    if found != name:
        raise NotThere(
            f"this version of Shoal reads the spec of revision {name} as another one ({found}): apply the manifest of "
            "that time"
        )
    return changed


def _revision(model: Manifest) -> str:
    """By the spec alone: what another version has written into the status need not be understood."""
    return rendering.revision(modeldeployment.read({**model, "status": {}}))


def _spec(spec: dict[str, Any], made_from: dict[str, Any], own_name: str) -> dict[str, Any]:
    changed = {key: value for key, value in spec.items() if key not in _WHOLE_PARTS}
    changed |= {key: made_from[key] for key in _WHOLE_PARTS if key in made_from}
    was = made_from["model"]
    model = {key: value for key, value in spec["model"].items() if key != "credentials"} | {"source": was["source"]}
    if "credentials" in was:
        model["credentials"] = {"secretName": was["credentials"]}
    served, names = was["servedName"], model.get("names") or []
    if (names[0] if names else own_name) != served:
        model["names"] = [served, *(name for name in names if name != served)]
    changed["model"] = model
    rollout = {key: value for key, value in spec.get("rollout", {}).items() if key != "drainSeconds"}
    if "drainSeconds" in made_from:
        rollout["drainSeconds"] = made_from["drainSeconds"]
    if rollout:
        changed["rollout"] = rollout
    else:
        changed.pop("rollout", None)
    return changed


def reminders(model: Manifest, current: str) -> list[str]:
    """What the owner has to know: the file that was applied still says what it said."""
    managers = {entry.get("manager", "") for entry in model["metadata"].get("managedFields", [])}
    annotations = model["metadata"].get("annotations", {})
    by_apply = "kubectl.kubernetes.io/last-applied-configuration" in annotations or "kubectl" in managers
    others = sorted(manager for manager in managers if manager and not manager.startswith(("shoal", "kubectl")))
    said = []
    if by_apply:
        said.append(
            f"the file that was applied still asks for revision {current}: change it too, or the next "
            "`kubectl apply` brings that one back"
        )
    if others:
        said.append(f"{', '.join(others)} writes this object as well: change it there, or it may be written back")
    return said
