"""What is told to requests that get no answer of an engine: the sentence, the code, and when to come again."""

from dataclasses import replace
from random import Random

from shoal_api.routes import ModelRoute
from shoal_serving.gateway.errors import Refusal
from shoal_serving.gateway.line import Line
from shoal_serving.gateway.retrying import DEATHS_MOST, History, Step


class Refusals:
    """Made new each time, since no two clients are told the same moment. Randomness comes from outside."""

    __slots__ = ("_random",)

    def __init__(self, random: Random) -> None:
        self._random = random

    def after(self, step: Step, history: History, found: Refusal | None) -> Refusal:
        """The last attempt is over; `found` is what the engine said."""
        if step is Step.PASS_ON and found is not None:
            return replace(found, should_retry=False) if history.deaths >= DEATHS_MOST else found
        if step is Step.TIMED_OUT:
            return Refusal(504, "The engine did not answer in time.", "engine_timeout")
        if step is Step.DEADLY:
            return self.deadly()
        return self.stopping() if step is Step.ANOTHER else self.overloaded()

    def of_waiting(self, line: Line, now: float, since: float, give_up_at: float) -> Refusal | None:
        """Why a request that waits need not wait any longer; None while it may."""
        if line.cannot_start and not line.dispatcher.endpoints:
            return self.cannot_start(line.route)
        if now - since > line.route.queue.max_wait_seconds:
            return self.waited_in_vain(line)
        if now >= give_up_at:
            return self.client_late(line)
        return None

    def cannot_start(self, route: ModelRoute) -> Refusal:
        """Waiting would be in vain."""
        return Refusal(503, route.cannot_start, "model_unavailable", should_retry=False)

    def queue_full(self, route: ModelRoute) -> Refusal:
        """Too many wait for this model."""
        return Refusal(
            429,
            f"Too many requests wait for the model `{route.served_name}`; try again in a moment.",
            "queue_full",
            retry_after_seconds=self._about(2),
        )

    def bytes_full(self) -> Refusal:
        """Too much is held."""
        return Refusal(
            429,
            "The gateway holds as many bytes of requests as it may; try again in a moment.",
            "queue_full",
            retry_after_seconds=self._about(2),
        )

    def overloaded(self) -> Refusal:
        """No replica that was asked could serve."""
        return Refusal(
            503,
            "The model's replicas are overloaded; try again in a moment.",
            "server_is_overloaded",
            retry_after_seconds=self._about(1),
        )

    def deadly(self) -> Refusal:
        """Two engines ended over one request."""
        return Refusal(
            503,
            "Two replicas were lost while they worked on this request; it is not tried again.",
            "server_is_overloaded",
            retry_after_seconds=self._about(30),
            should_retry=False,
        )

    def starting(self) -> Refusal:
        """Nothing is known yet: that says nothing about the model."""
        return Refusal(
            503,
            "This gateway does not know the models yet; send the request again.",
            "gateway_starting",
            retry_after_seconds=self._about(1),
            should_retry=True,
        )

    def stopping(self) -> Refusal:
        """This gateway ends; another one, or its successor, takes the request."""
        return Refusal(
            503,
            "This gateway is stopping; send the request again.",
            "gateway_stopping",
            retry_after_seconds=self._about(0.5),
            should_retry=True,
        )

    def waited_in_vain(self, line: Line) -> Refusal:
        """`maxWaitSeconds` are over."""
        route = line.route
        seconds = f"{route.queue.max_wait_seconds:g} s"
        name = f"`{route.served_name}`"
        if line.dispatcher.endpoints:
            return Refusal(
                503,
                f"No replica of the model {name} had room within {seconds}.",
                "server_is_overloaded",
                retry_after_seconds=self._about(5),
            )
        told = f" {route.condition}" if route.condition else ""
        return Refusal(
            503,
            f"No replica of the model {name} was ready within {seconds}.{told}",
            "model_not_ready",
            retry_after_seconds=self._about(5),
        )

    def client_late(self, line: Line) -> Refusal:
        """The client's own time-out comes before a replica has room: it is not begun for nobody."""
        route = line.route
        name = f"`{route.served_name}`"
        state = "had room" if line.dispatcher.endpoints else "was ready"
        told = f" {route.condition}" if route.condition and not line.dispatcher.endpoints else ""
        return Refusal(
            504,
            f"No replica of the model {name} {state} before the client's own time-out.{told}",
            "client_timeout",
            retry_after_seconds=self._about(1),
        )

    def _about(self, seconds: float) -> float:
        """Not the same moment for all who are told to come again."""
        return seconds * (0.75 + self._random.random() / 2)
