"""Ray's impatience with a busy machine is not ours."""

import pytest

from shoal_serving.replica.ray_trimming import RAYLET_PATIENCE_SECONDS, patiently


class Busy:
    """A machine on which the raylet registers after so many seconds; its clock moves by sleeping."""

    def __init__(self, registered_at: float) -> None:
        self.now = 0.0
        self.registered_at = registered_at

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def get_node(self, address: str, node: str) -> str:
        if self.now < self.registered_at:
            raise RuntimeError("not there")
        return f"{node} at {address}"


def test_a_raylet_that_takes_a_minute_is_waited_for() -> None:
    busy = Busy(60)

    assert patiently(busy.get_node, busy.clock, busy.sleep, "gcs", "n1") == "n1 at gcs"


def test_a_raylet_that_never_comes_is_an_error() -> None:
    busy = Busy(float("inf"))

    with pytest.raises(RuntimeError):
        patiently(busy.get_node, busy.clock, busy.sleep, "gcs", "n1")

    assert busy.now >= RAYLET_PATIENCE_SECONDS
