"""The line of one model: its dispatcher, its counts, and what every request for it needs to know."""

from shoal_api.routes import ModelRoute
from shoal_api.routing import Continuation
from shoal_serving.gateway.dispatching import Dispatcher
from shoal_serving.gateway.metrics import ModelMetrics
from shoal_serving.gateway.upstream import LiveEndpoint


class Line:
    """One model: its dispatcher, its counts, and what is said of it in every answer."""

    __slots__ = (
        "alias_line",
        "busy_at",
        "cannot_start",
        "canonical_line",
        "counted",
        "dispatcher",
        "id",
        "is_exact",
        "metrics",
        "route",
        "served_name",
    )

    def __init__(self, dispatcher: Dispatcher[LiveEndpoint], metrics: ModelMetrics) -> None:
        self.dispatcher = dispatcher
        self.metrics = metrics
        self.counted = 0
        self.busy_at: float | None = None
        self.id = dispatcher.route.id
        model = self.id.encode()
        self.canonical_line = b"x-shoal-model: %b; by=canonical\r\n" % model
        self.alias_line = b"x-shoal-model: %b; by=alias\r\n" % model
        self._read(dispatcher.route)

    def update(self, route: ModelRoute) -> None:
        """Other facts are in force."""
        self._read(route)
        self.dispatcher.update(route)

    def _read(self, route: ModelRoute) -> None:
        """Lay out what every request needs: the treaty's types take several times as long to be asked."""
        self.route = route
        self.served_name = route.served_name
        self.cannot_start = route.cannot_start
        self.is_exact = route.routing.continuation is Continuation.EXACT and not route.reasoning_parser

    def note_use(self, now: float) -> None:
        """Remember when somebody last asked, without a clock on the way of each request."""
        dispatcher = self.dispatcher
        if dispatcher.asked != self.counted or dispatcher.in_flight or dispatcher.room:
            self.counted, self.busy_at = dispatcher.asked, now
