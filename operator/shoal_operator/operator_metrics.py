"""What the operator counts, as Prometheus reads it."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from shoal_api.status import Status

HELP: dict[str, str] = {
    "shoal_operator_leading": "1 while this operator holds the Lease and acts.",
    "shoal_desired_replicas": "Replicas that are wanted, by model.",
    "shoal_ready_replicas": "Replicas that answer, by model.",
    "shoal_starting_replicas": "Replicas that are there and do not answer, draining ones included, by model.",
    "shoal_decisions": "Steps taken, and numbers of replicas that the load changed, by reason.",
    "shoal_reconcile_duration_seconds": "Time that one look at one model took.",
    "shoal_reconcile_queue_models": "Models that wait to be looked at.",
    "shoal_api_calls": "Calls to the API server, by kind: read, write, lease.",
}
"""Every metric with what it tells; docs/reference/metrics.md has the same lines."""

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class OperatorMetrics:
    """One registry of its own, so that nothing else is told."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._leading = self._gauge("shoal_operator_leading")
        self._desired = self._gauge("shoal_desired_replicas", "model")
        self._ready = self._gauge("shoal_ready_replicas", "model")
        self._starting = self._gauge("shoal_starting_replicas", "model")
        self._decisions = Counter("shoal_decisions", HELP["shoal_decisions"], ["reason"], registry=self._registry)
        self._duration = Histogram(
            "shoal_reconcile_duration_seconds",
            HELP["shoal_reconcile_duration_seconds"],
            registry=self._registry,
            buckets=_BUCKETS,
        )
        self._queue = self._gauge("shoal_reconcile_queue_models")
        self._calls = Counter("shoal_api_calls", HELP["shoal_api_calls"], ["kind"], registry=self._registry)
        self._models: set[str] = set()

    def leads(self, leading: bool) -> None:
        """Whether this operator acts; one that does not knows nothing about models."""
        self._leading.set(leading)
        if not leading:
            for model in tuple(self._models):
                self.forget(model)

    def counted(self, model: str, status: Status) -> None:
        """The numbers of one model."""
        self._models.add(model)
        self._desired.labels(model).set(status.desired_replicas)
        self._ready.labels(model).set(status.ready_replicas)
        self._starting.labels(model).set(status.replicas - status.ready_replicas)

    def forget(self, model: str) -> None:
        """It is gone."""
        if model in self._models:
            self._models.remove(model)
            for gauge in (self._desired, self._ready, self._starting):
                gauge.remove(model)

    def decided(self, reason: str) -> None:
        self._decisions.labels(reason).inc()

    def reconciled(self, seconds: float) -> None:
        self._duration.observe(seconds)

    def called(self, kind: str) -> None:
        self._calls.labels(kind).inc()

    def watch_queue(self, length: Callable[[], int]) -> None:
        """Ask for the queue's length whenever somebody asks for the metrics."""
        self._queue.set_function(length)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)

    def _gauge(self, name: str, *names: str) -> Gauge:
        return Gauge(name, HELP[name], names, registry=self._registry)
