"""Decide how many places a gateway may hold while callers wait at several: as many as its callers would have turns."""

from collections.abc import Mapping, Sequence

from shoal_api.load import Claims
from shoal_serving.gateway import turns


def most(places: int, claims: Claims) -> int:
    """So many of the model's places, over all its replicas, this gateway may fill; at least one, and what nobody wants.

    Every gateway is told the same claims in the same order, so that all of them divide alike.
    """
    shares = parts([claim.callers for claim in claims.claims])
    given = divided(places, shares, [claim.requests for claim in claims.claims])
    others = sum(got for at, got in enumerate(given) if at != claims.own)
    return max(places - others, 1)


def parts(callers: Sequence[Mapping[str, int]]) -> list[float]:
    """What part of the turns each would have if all callers stood in one room: a class its weight, in it all alike."""
    found = [0.0] * len(callers)
    for priority, weight in turns.WEIGHTS.items():
        counts = [each.get(priority, 0) for each in callers]
        total = sum(counts)
        if total:
            for at, count in enumerate(counts):
                found[at] += weight * count / total
    return found


def divided(places: int, shares: Sequence[float], wanted: Sequence[int]) -> list[int]:
    """The places by these shares, to nobody more than wanted, and to nobody none where there is one for each."""
    given = [0] * len(shares)
    hungry = [at for at, share in enumerate(shares) if share > 0 and wanted[at] > 0]
    left = places
    exact: dict[int, float] = {}
    while hungry:
        whole = sum(shares[at] for at in hungry)
        exact = {at: left * shares[at] / whole for at in hungry}
        content = [at for at in hungry if wanted[at] <= exact[at]]
        if not content:
            break
        for at in content:
            given[at] = wanted[at]
            left -= wanted[at]
        hungry = [at for at in hungry if at not in content]
    for at in hungry:
        given[at] = int(exact[at])
    rest = left - sum(given[at] for at in hungry) if hungry else 0
    # Who has none yet comes first, then who lost most by rounding down; the order is the same at every gateway.
    for at in sorted(hungry, key=lambda at: (given[at] > 0, given[at] - exact[at], at))[:rest]:
        given[at] += 1
    for at in hungry:
        richest = max(range(len(given)), key=lambda each: (given[each], -each))
        if not given[at] and given[richest] > 1:
            given[richest] -= 1
            given[at] = 1
    return given
