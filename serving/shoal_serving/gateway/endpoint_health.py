"""Decide when an endpoint may be asked again after it could not be reached, or was busy."""

from dataclasses import dataclass

OUT_SECONDS = 1.0
OUT_MOST_SECONDS = 30.0
BUSY_SECONDS = 0.05
BUSY_MOST_SECONDS = 1.0


@dataclass(slots=True)
class Health:
    """What is known of one endpoint. Times are seconds of a monotonic clock."""

    skip_until: float = 0.0
    out_seconds: float = 0.0
    """How long it is out this time; 0 while it is in."""
    busy_seconds: float = 0.0
    on_trial: bool = False
    """Out, its time is over, and one request tries it: nobody else does meanwhile."""

    def is_open(self, now: float) -> bool:
        """Whether a request may go there now."""
        return now >= self.skip_until and not self.on_trial

    @property
    def is_out(self) -> bool:
        """Whether it could not be reached the last time."""
        return self.out_seconds > 0

    def begin(self) -> None:
        """A request is on its way there; the only one while it is out."""
        if self.out_seconds:
            self.on_trial = True

    def unreachable(self, now: float) -> bool:
        """Nothing could be sent: out for a second, doubled every time. Several that fail at once count as one.

        Whether this one counted.
        """
        if self.out_seconds and not self.on_trial and now < self.skip_until:
            return False
        self.on_trial = False
        self.out_seconds = min(self.out_seconds * 2 or OUT_SECONDS, OUT_MOST_SECONDS)
        self.skip_until = now + self.out_seconds
        return True

    def reached(self) -> None:
        """It proved who it is: in again."""
        if self.out_seconds:
            self.out_seconds = 0.0
            self.on_trial = False
            self.skip_until = 0.0

    def busy(self, now: float) -> None:
        """It refused for want of room: skipped for 50 ms, doubled every time. Several at once count as one."""
        if now < self.skip_until:
            return
        self.busy_seconds = min(self.busy_seconds * 2 or BUSY_SECONDS, BUSY_MOST_SECONDS)
        self.skip_until = now + self.busy_seconds

    def served(self) -> None:
        """It took a request."""
        self.busy_seconds = 0.0
