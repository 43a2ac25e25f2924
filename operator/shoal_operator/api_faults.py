"""What can go wrong at the Kubernetes API, as everybody above its door sees it."""

CONFLICT = 409
_OF_THE_OBJECT = frozenset({400, 403, 404, 422})
"""A quota, an admission rule, a field that cannot be, a namespace that is gone: the next try is answered the same."""


class TryAgain(Exception):
    """Things are not as they were a moment ago; the next look knows more."""


class Unreachable(TryAgain):
    """The API server gave no answer, or one that says to come later."""


_LONGEST_MESSAGE = 500


class NotLeading(Exception):
    """Another operator may hold the Lease by now, so this one writes nothing."""


class ApiFault(Exception):
    """The API server refused."""

    def __init__(self, status: int, message: str) -> None:
        # An API server repeats a whole object that it refuses.
        short = message if len(message) <= _LONGEST_MESSAGE else f"{message[:300]} … {message[-150:]}"
        super().__init__(f"{short} ({status})")
        self.status = status
        self.message = short

    @property
    def is_conflict(self) -> bool:
        """It exists already, or is another version than the writer knew."""
        return self.status == CONFLICT

    @property
    def is_about_the_object(self) -> bool:
        return self.status in _OF_THE_OBJECT


class Foreign(Exception):
    """An object with the name that ours would have belongs to somebody else; it is left alone."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"{kind} '{name}' is there and belongs to somebody else: delete it, or rename the model")


class NotThere(Exception):
    """What somebody asked for does not exist, or the cluster does not answer; one sentence."""
