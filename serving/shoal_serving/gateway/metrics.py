"""What the gateway counts: plain numbers on the hot path; `exposition` writes them down when somebody asks."""

from bisect import bisect_left
from collections.abc import Mapping

from shoal_serving.gateway.cluster_wire import WatchState

_LONG = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_SHORT = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
_GAP = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0)

HELP: dict[str, str] = {
    "shoal_requests": "Requests to inference paths that ended, by model, route (the path) and outcome.",
    "shoal_attempts": "Tries at endpoints that ended, by model and outcome.",
    "shoal_requests_waiting": "Requests that wait for an endpoint, by model.",
    "shoal_requests_in_flight": "Requests that an endpoint works on, by model.",
    "shoal_endpoints": "Endpoints by model and state: open, busy (skipped for a moment), out (could not be reached).",
    "shoal_held_bytes": "Bytes that this process holds: request bodies, and prompt ids of streams that may go on.",
    "shoal_open_connections": "Connections that clients have open.",
    "shoal_upstream_idle_connections": "Connections to endpoints that are kept for the next request, by model.",
    "shoal_queue_wait_seconds": "Time that a request waited for an endpoint, by model.",
    "shoal_time_to_first_token_seconds": "Time from arrival to the first data event of a stream, by model.",
    "shoal_token_gap_seconds": "Time between two reads of events of one stream, by model.",
    "shoal_added_latency_seconds": "Time that the gateway itself added to an answer, waiting left out, by model.",
    "shoal_request_duration_seconds": "Time from a request's arrival to the end of its answer, by model.",
    "shoal_watch_age_seconds": "Time since the API server was last heard, by resource; at most 20 while it answers.",
    "shoal_watch_losses": "Watches of the API server that were lost and begun anew, by resource and reason.",
    "shoal_watch_lists": "Full lists that were read from the API server, by resource.",
}
"""Every metric with what it tells; docs/reference/metrics.md has the same lines."""


class Histogram:
    """Counts by bucket; `observe` is cheap enough for every token."""

    __slots__ = ("bounds", "counts", "least", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.least = bounds[0]
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """One more reading."""
        at = 0 if seconds <= self.least else bisect_left(self.bounds, seconds)
        self.counts[at] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """The cumulative counts that Prometheus wants."""
        rows, sum_so_far = [], 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            sum_so_far += count
            rows.append((bound, float(sum_so_far)))
        return rows


class ModelMetrics:
    """What is counted for one model."""

    __slots__ = ("added", "attempts", "duration", "first_token", "gap", "queue_wait", "requests")

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str], int] = {}
        self.attempts: dict[str, int] = {}
        self.queue_wait = Histogram((0.0, *_LONG))
        self.first_token = Histogram(_LONG)
        self.gap = Histogram(_GAP)
        self.added = Histogram(_SHORT)
        self.duration = Histogram(_LONG)

    def count_request(self, route: str, outcome: str) -> None:
        """A request ended."""
        key = (route, outcome)
        self.requests[key] = self.requests.get(key, 0) + 1

    def count_attempt(self, outcome: str) -> None:
        """A try at an endpoint ended."""
        self.attempts[outcome] = self.attempts.get(outcome, 0) + 1


class ModelGauges:
    """A reading of one model."""

    __slots__ = ("endpoints", "idle_connections", "in_flight", "waiting")

    def __init__(self, waiting: int, in_flight: int, endpoints: Mapping[str, int], idle_connections: int) -> None:
        self.waiting = waiting
        self.in_flight = in_flight
        self.endpoints = endpoints
        self.idle_connections = idle_connections


class Reading:
    """A reading of the whole process; the model is namespace/name, `""` for names that lead nowhere."""

    __slots__ = ("gauges", "held_bytes", "models", "open_connections", "watches")

    def __init__(
        self,
        models: Mapping[str, ModelMetrics],
        gauges: Mapping[str, ModelGauges],
        held_bytes: int,
        open_connections: int,
        watches: Mapping[str, WatchState],
    ) -> None:
        self.models = models
        self.gauges = gauges
        self.held_bytes = held_bytes
        self.open_connections = open_connections
        self.watches = watches
