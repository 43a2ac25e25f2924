"""Until when a waiting request is worth starting: what its client says, and what a heartbeat makes of it."""

import pytest

from shoal_serving.gateway import patience
from shoal_serving.gateway.patience import NEVER


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"600", 600.0),
        (b"0.5", 0.5),
        (b"600.0", 600.0),
        (b"0", 0.0),
        (b"", 0.0),
        (b"-1", 0.0),
        (b"inf", 0.0),
        (b"nan", 0.0),
        (b"1e9", 0.0),
        (b"None", 0.0),
        (b"Timeout(5)", 0.0),
        (b"9" * 400, 0.0),
        ("٣".encode(), 0.0),
    ],
)
def test_seconds_are_read_and_nothing_else(value: bytes, seconds: float) -> None:
    assert patience.read(value) == seconds


@pytest.mark.parametrize(
    ("seconds", "is_stream", "heartbeat_after", "waits"),
    [
        (0.0, False, 0.0, NEVER),
        (600.0, False, 0.0, 599.5),
        (600.0, True, 0.0, 599.5),
        (1.0, True, 0.0, 0.9),
        (10.0, True, 5.0, NEVER),  # a heartbeat comes first, and the client's time begins anew
        (10.0, True, 10.0, 9.5),
        (10.0, True, 20.0, 9.5),
        (10.0, False, 5.0, 9.5),  # only streams have heartbeats
    ],
)
def test_a_client_is_told_shortly_before_it_gives_up(
    seconds: float, is_stream: bool, heartbeat_after: float, waits: float
) -> None:
    at = patience.give_up_at(1000.0, seconds, is_stream=is_stream, heartbeat_after=heartbeat_after)
    assert at == pytest.approx(1000.0 + waits)
