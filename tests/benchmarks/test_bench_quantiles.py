"""Percentiles by nearest rank."""

import pytest

import quantiles


@pytest.mark.parametrize(
    ("values", "share", "wanted"),
    [
        ([7], 0.5, 7),
        ([7], 0.99, 7),
        ([1, 2], 0.5, 1),
        ([1, 2, 3], 0.5, 2),
        (range(1, 101), 0.5, 50),
        (range(1, 101), 0.99, 99),
        (range(1, 102), 0.99, 100),
        (range(1, 101), 1, 100),
    ],
)
def test_a_percentile_is_the_smallest_value_that_enough_values_do_not_exceed(
    values: list[float], share: float, wanted: float
) -> None:
    assert quantiles.percentile(values, share) == wanted


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1], 0), ([1], 1.1)])
def test_a_percentile_that_cannot_be_is_refused(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match=r"percentile of no values|a share lies above 0"):
        quantiles.percentile(values, share)


def test_no_values_have_no_spread() -> None:
    assert quantiles.spread([]) is None


def test_a_spread_does_not_mind_the_order() -> None:
    assert quantiles.spread([3, 1, 2]) == quantiles.Spread(count=3, p50=2, p99=3, greatest=3)


def test_a_median_was_always_measured() -> None:
    assert quantiles.median([10, 1, 4, 2]) == 2
