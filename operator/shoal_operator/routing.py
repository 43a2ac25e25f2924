"""Derive what the gateway routes by from what is observed; on Kubernetes the gateway finds the same by itself."""

from shoal_api import engine_flags
from shoal_api.conditions import HOPELESS, ConditionType
from shoal_api.modeldeployment import ModelDeployment
from shoal_api.routes import Endpoint, ModelRoute
from shoal_api.status import Status
from shoal_operator import status as statuses
from shoal_operator.observed import Observed


def route(md: ModelDeployment, status: Status, observed: Observed) -> ModelRoute:
    """The route of one model: only ready replicas, so that a draining one is out at once."""
    ready = statuses.condition(status, ConditionType.READY)
    cannot_start = ready is not None and ready.reason in HOPELESS
    if md.metadata.creation_timestamp is None:
        raise ValueError(f"{md.id} has no creationTimestamp; whoever admits a model gives it one")
    return ModelRoute(
        namespace=md.metadata.namespace,
        name=md.metadata.name,
        uid=md.metadata.uid,
        created=md.metadata.creation_timestamp,
        served_name=md.canonical_name,
        names=status.names,
        revision=status.revision,
        reasoning_parser=engine_flags.separates_reasoning(md.spec.engine.args),
        queue=md.spec.queue,
        timeouts=md.spec.timeouts,
        routing=md.spec.routing,
        cannot_start=ready.message if ready and cannot_start else "",
        condition=ready.message if ready else "",
        endpoints=[
            Endpoint(replica=r.name, uid=r.uid, host=r.endpoint.host, port=r.endpoint.port, revision=r.revision)
            for r in observed.ready
            if r.endpoint is not None
        ],
    )
