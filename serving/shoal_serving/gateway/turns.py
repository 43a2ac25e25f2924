"""Decide which class of priority has the next turn: by weight, so that a high one is soon served and none starves."""

from collections.abc import Mapping, Sequence
from typing import Final

from shoal_api.keys import Priority

WEIGHTS: Final[dict[Priority, int]] = {"high": 16, "normal": 4, "low": 1}
"""Of 21 turns in a row, with somebody of each class waiting all the time, so many go to each."""

Credit = Mapping[Priority, int]
"""What each class that waits has saved up, or owes."""


def next_class(waiting: Sequence[Priority], credit: Credit) -> tuple[Priority, Credit]:
    """Whose turn it is, and the credit after it. `waiting`: the classes that wait, the highest first; not empty.

    Each gets its weight, who has most takes the turn and pays for all. A class in which nobody waits saves nothing up.
    """
    if len(waiting) == 1:
        return waiting[0], {}
    saved = {each: credit.get(each, 0) + WEIGHTS[each] for each in waiting}
    chosen = max(waiting, key=saved.__getitem__)
    saved[chosen] -= sum(WEIGHTS[each] for each in waiting)
    return chosen, saved
