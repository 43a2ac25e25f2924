"""Out for a second, doubling to thirty, one trial at a time; busy for 50 ms, doubling to a second."""

from shoal_serving.gateway.endpoint_health import Health


def test_out_doubles_from_one_second_to_thirty() -> None:
    health, now, times = Health(), 100.0, []
    for _ in range(7):
        health.unreachable(now)
        times.append(health.out_seconds)
        now = health.skip_until
        assert health.is_open(now)
        health.begin()
    assert times == [1, 2, 4, 8, 16, 30, 30]


def test_while_one_request_tries_it_nobody_else_does() -> None:
    health = Health()
    health.unreachable(0.0)
    assert not health.is_open(0.9)
    assert health.is_open(1.0)
    health.begin()
    assert not health.is_open(1.5)
    health.reached()
    assert health.is_open(1.5)
    assert not health.is_out


def test_connections_that_fail_together_count_once() -> None:
    health = Health()
    for _ in range(5):
        health.begin()
    for moment in (0.0, 0.01, 0.02):
        health.unreachable(moment)
    assert health.out_seconds == 1


def test_busy_doubles_from_50_ms_to_a_second_and_ends_with_a_request_served() -> None:
    health, now, times = Health(), 0.0, []
    for _ in range(6):
        health.busy(now)
        health.busy(now)
        times.append(health.busy_seconds)
        now = health.skip_until
    assert times == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0]
    health.served()
    health.busy(now)
    assert health.busy_seconds == 0.05


def test_busy_is_not_out() -> None:
    health = Health()
    health.busy(0.0)
    assert not health.is_out
    health.begin()
    assert not health.on_trial
