"""Decide what a replica lets in: whose request it is, whether there is room, whether it drains."""

import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from shoal_api import proof

Refusal = Literal["misdirected", "limit", "draining"]

_HEX = frozenset(string.hexdigits)


def _never() -> None:
    """The key stays."""


@dataclass(slots=True)
class Admission:
    """The replica's doorkeeper. One per process; times are seconds of a monotonic clock.

    `new_key` tells the model's key where it is another by now: it is asked when somebody says hello or has a wrong MAC.
    """

    key: bytes
    replica_uid: str
    settle_seconds: float
    in_flight: int = 0
    draining_since: float | None = None
    new_key: Callable[[], bytes | None] = _never

    def answer_hello(self, nonce: str) -> str | None:
        """The proof for a gateway's nonce; None where the nonce is none."""
        if len(nonce) != proof.NONCE_CHARACTERS or not _HEX.issuperset(nonce):
            return None
        self._renew()
        return proof.hello_proof(self.key, nonce, self.replica_uid)

    def refusal(self, mac: str, limit: str, now: float) -> Refusal | None:
        """Why a request with these header values (`""` where absent) is not let in; None where it is."""
        if not self.knows(mac):
            return "misdirected"
        if self.draining_since is not None and now >= self.draining_since + self.settle_seconds:
            return "draining"
        if limit.isdecimal() and self.in_flight >= int(limit):
            return "limit"
        return None

    def knows(self, mac: str) -> bool:
        """Whether the sender holds this model's key and means this very replica."""
        if proof.is_right_mac(self.key, self.replica_uid, mac):
            return True
        return self._renew() and proof.is_right_mac(self.key, self.replica_uid, mac)

    def begin_drain(self, now: float) -> None:
        """Not ready from now on; after the settle time nothing new is let in."""
        if self.draining_since is None:
            self.draining_since = now

    def _renew(self) -> bool:
        key = self.new_key()
        if key is None:
            return False
        self.key = key
        return True

    def is_drained(self, now: float) -> bool:
        """Whether nothing runs and nothing will be let in any more."""
        return (
            self.draining_since is not None and self.in_flight == 0 and now >= self.draining_since + self.settle_seconds
        )
