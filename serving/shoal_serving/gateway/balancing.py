"""Decide which endpoint a request goes to: the one with the least load over all gateways, ties by lot."""

from collections.abc import Callable, Collection, Iterable
from typing import Protocol, TypeVar

from shoal_serving.gateway.endpoint_health import Health


class Candidate(Protocol):
    """What the choice is made from."""

    uid: str
    in_flight: int
    elsewhere: int
    health: Health


C = TypeVar("C", bound=Candidate)


def pick(
    endpoints: Iterable[C], tried: Collection[str], limit: int, now: float, random: Callable[[], float]
) -> C | None:
    """Among the endpoints with room that are open and untried, the one with the fewest in flight; None if none is.

    What other gateways have there weighs as much, but takes no room: it is a second old, and the replica counts itself.
    """
    best: C | None = None
    least, ties = 0, 0
    for endpoint in endpoints:
        own = endpoint.in_flight
        load = own + endpoint.elsewhere
        if own >= limit or (load > least and best is not None):
            continue
        health = endpoint.health
        if now < health.skip_until or health.on_trial or (tried and endpoint.uid in tried):
            continue
        if best is None or load < least:
            best, least, ties = endpoint, load, 1
        else:
            ties += 1
            # Each of n equals stays with chance 1/n, without a list of them.
            if random() * ties < 1:
                best = endpoint
    return best
