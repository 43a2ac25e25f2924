"""Render a spec into what a replica is made from, and into the revision that names it.

Belongs to a revision: whatever a running replica cannot take over without being started anew. Scaling, replicas, queue,
timeouts, routing and aliases reach gateways and operator only. Of `rollout` the strategy and the start deadline guide
the operator alone, but `drainSeconds` is fixed in the replica at its start (the pod's grace period and Ray's shutdown
times are made of it), so a change of it makes a revision: else running replicas would keep the old patience in silence.
"""

import hashlib
import json
from typing import Any

from shoal_api.modeldeployment import ModelDeployment

_REVISION_CHARACTERS = 10
_OF_THE_REVISION = frozenset({"engine", "parallelism", "resources", "scheduling", "podTemplate"})


def template(md: ModelDeployment) -> dict[str, Any]:
    """What a replica of this model is made from, without defaults: a field added later changes no hash."""
    spec = md.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    made_from: dict[str, Any] = {part: value for part, value in spec.items() if part in _OF_THE_REVISION}
    made_from["model"] = {"source": md.spec.model.source, "servedName": md.canonical_name}
    if md.spec.model.credentials is not None:
        made_from["model"]["credentials"] = md.spec.model.credentials.secret_name
    if "drainSeconds" in spec.get("rollout", {}):
        made_from["drainSeconds"] = md.spec.rollout.drain_seconds
    return made_from


def revision(md: ModelDeployment) -> str:
    """The name of the revision: a hash of what a replica is made from."""
    text = json.dumps(template(md), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_REVISION_CHARACTERS]
