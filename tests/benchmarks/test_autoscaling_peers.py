"""Each rule written from another project's documentation gives what that project's own example says."""

import pytest

from autoscaling.peers import Hpa, Keda, Knative, KubeAi, RayServe, hpa_desired, ray_desired
from autoscaling.policies import Policy, View


def a_view(load: int, wanted: int, ready: int | None = None, idle: float = 0.0) -> View:
    return View(0, load, wanted, wanted if ready is None else ready, idle)


def played(policy: Policy, seconds: int, load: int, wanted: int, begin: int = 0, idle: bool = False) -> list[int]:
    """What was wanted at each second; new replicas are ready at once."""
    found = []
    for second in range(begin, begin + seconds):
        wanted = policy.wanted(float(second), a_view(load, wanted, idle=float(second - begin) if idle else 0.0))
        found.append(wanted)
    return found


@pytest.mark.parametrize(
    ("current", "value", "desired"),
    [
        (1, 200.0, 2),  # "current 200m, desired 100m: the replicas are doubled, since 200.0 / 100.0 == 2.0"
        (3, 200.0, 6),
        (4, 50.0, 2),  # "if the current value is 50m, the replicas are halved, since 50.0 / 100.0 == 0.5"
        (10, 105.0, 10),  # within the tolerance of 0.1 nothing changes
        (10, 111.0, 12),
    ],
)
def test_kubernetes_doubles_halves_and_tolerates(current: int, value: float, desired: int) -> None:
    assert hpa_desired(current, load=current * value, target=100.0) == desired


def test_kubernetes_goes_up_by_the_double_or_four_and_down_after_five_minutes() -> None:
    up = played(Hpa(1.0), 46, load=100, wanted=1)
    assert [up[0], up[15], up[30], up[45]] == [5, 10, 20, 24]
    policy = Hpa(1.0)
    played(policy, 16, load=10, wanted=10)
    down = played(policy, 400, load=2, wanted=10, begin=16)
    assert down[280] == 10
    assert down[330] == 2


def test_keda_goes_to_zero_after_its_cooldown_and_comes_back_at_a_poll() -> None:
    policy = Keda(1.0, least=0)
    played(policy, 31, load=1, wanted=1)
    down = played(policy, 400, load=0, wanted=1, begin=31)
    assert (down[290], down[330]) == (1, 0)
    back = played(policy, 31, load=3, wanted=0, begin=431)
    assert 0 in back
    assert back[-1] >= 1


def test_knative_with_ten_at_seventy_percent_makes_the_next_pod_over_seven() -> None:
    assert played(Knative(10.0), 70, load=7, wanted=1)[-1] == 1
    assert played(Knative(10.0), 70, load=8, wanted=1)[-1] == 2
    assert played(Knative(10.0), 70, load=100, wanted=1)[-1] == 15  # "100 / (10 × 0.7) = 15 pods"


def test_knative_panics_at_twice_what_is_ready_and_goes_to_zero_after_window_and_grace() -> None:
    policy = Knative(10.0, utilisation=1.0)
    played(policy, 60, load=10, wanted=1)
    assert played(policy, 8, load=60, wanted=1, begin=60)[-1] == 6, "the panic window is a tenth of the stable one"
    calm = played(policy, 40, load=0, wanted=6, begin=68)
    assert set(calm) == {6}, "nobody goes while it panics"
    rest = Knative(10.0, least=0)
    played(rest, 10, load=1, wanted=1)
    gone = played(rest, 100, load=0, wanted=1, begin=10, idle=True)
    assert (gone[85], gone[-1]) == (1, 0)


@pytest.mark.parametrize(
    ("running", "requests", "target", "desired"),
    [(1, 10, 1.0, 10), (10, 20, 1.0, 20), (2, 5, 2.0, 3), (10, 5, 1.0, 5), (4, 0, 1.0, 0)],
)
def test_ray_serve_keeps_the_ongoing_requests_of_a_replica_at_the_target(
    running: int, requests: float, target: float, desired: int
) -> None:
    assert ray_desired(running, requests, target) == desired


def test_ray_serve_waits_thirty_seconds_upwards_and_six_hundred_downwards() -> None:
    policy = RayServe(1.0)
    up = played(policy, 40, load=5, wanted=1)
    assert (up[29], up[30]) == (1, 5)
    down = played(policy, 700, load=1, wanted=5, begin=40)
    assert down[600] == 5
    assert down[-1] == 1


def test_kubeai_needs_nine_minutes_for_nine_tenths_and_ten_and_a_half_to_zero() -> None:
    policy = KubeAi(1.0, least=0)
    up = played(policy, 700, load=10, wanted=1)
    reached = next(second for second, wanted in enumerate(up) if wanted >= 9)
    assert 480 <= reached <= 540
    down = played(policy, 700, load=0, wanted=10, begin=700)
    zero = next(second for second, wanted in enumerate(down) if wanted == 0)
    assert 600 <= zero <= 660


def test_kubeai_sums_over_its_proxies() -> None:
    assert played(KubeAi(1.0), 700, load=1 + 2 + 3, wanted=1)[-1] == 6
