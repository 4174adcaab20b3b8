from __future__ import annotations

import math
from timeit import repeat

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from byzbench.reports.estimators import Interval
from byzbench.reports.statistics import (
    difference_interval,
    mean_interval,
    profile,
)

returns = st.lists(st.integers(-5000, 5000).map(lambda v: v / 10), min_size=3, max_size=25)


def rng(seed=0):
    return np.random.default_rng(seed)


# The mean and its interval


def test_without_bounds_the_interval_is_that_of_student():
    x = rng(3).normal(5, 2, size=9)
    measured = mean_interval(x)
    expected = stats.t.interval(0.95, 8, x.mean(), stats.sem(x))
    assert (measured.low, measured.high) == pytest.approx(expected)
    assert measured.value == pytest.approx(x.mean())


@pytest.mark.parametrize("successes", [0, 1, 5, 9, 10])
def test_of_runs_that_fail_or_solve_it_is_the_exact_interval_of_a_share(successes):
    x = np.array([20.0] * (10 - successes) + [480.0] * successes)
    measured = mean_interval(x, (20.0, 480.0))
    exact = stats.binomtest(successes, 10).proportion_ci(0.95, method="exact")
    assert measured.value == pytest.approx(20 + 46 * successes)
    assert measured.low == pytest.approx(20 + 460 * exact.low, abs=0.02 * 460)
    assert measured.high == pytest.approx(20 + 460 * exact.high, abs=0.02 * 460)


@pytest.mark.parametrize("n", [1, 2])
def test_below_three_seeds_the_mean_has_no_interval(n):
    assert mean_interval([4.0, 6.0][:n]) == Interval(3.0 + n)
    assert mean_interval([4.0, 6.0][:n], (0.0, 10.0)) == Interval(3.0 + n)
    assert difference_interval([4.0, 6.0][:n], 1.0) == Interval(3.0 + n)


@pytest.mark.parametrize("bounds", [(5.0, 5.0), (6.0, 5.0), (math.nan, 5.0), (0.0, math.inf)])
def test_bounds_must_be_finite_and_rise(bounds):
    with pytest.raises(ValueError, match="bounds must be"):
        mean_interval([1.0, 2.0, 3.0], bounds)


def test_equal_values_have_exactly_their_own_mean():
    assert mean_interval([0.1] * 7, (0.0, 1.0)).value == 0.1
    assert mean_interval([0.1] * 7) == Interval(0.1, 0.1, 0.1)


@given(returns)
@settings(deadline=None, max_examples=60)
def test_the_interval_holds_the_mean_and_stays_within_bounds_and_values(values):
    measured = mean_interval(values, (0.0, 100.0))
    assert min(0.0, *values) - 1e-9 <= measured.low <= measured.value <= measured.high <= max(100.0, *values) + 1e-9
    assert measured.value == pytest.approx(np.mean(values), abs=1e-9)


@given(returns, st.integers(0, 24), st.floats(0, 500))
@settings(deadline=None, max_examples=60)
def test_the_lower_end_never_falls_when_a_value_rises(values, index, rise):
    higher = list(values)
    higher[index % len(values)] += rise
    assert mean_interval(higher, (-600.0, 100.0)).low >= mean_interval(values, (-600.0, 100.0)).low - 1e-9


@given(returns, st.integers(-1000, 1000), st.integers(1, 100))
@settings(deadline=None, max_examples=60)
def test_the_interval_moves_with_the_unit(values, shift, scale):
    measured = mean_interval(values, (-10.0, 20.0))
    moved = mean_interval([shift + scale * v for v in values], (shift - 10.0 * scale, shift + 20.0 * scale))
    for end in ("value", "low", "high"):
        assert getattr(moved, end) == pytest.approx(shift + scale * getattr(measured, end), abs=1e-6)


@given(returns, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_the_order_of_seeds_moves_the_ends_by_no_more_than_the_draws_do(values, random):
    measured = mean_interval(values, (-500.0, 500.0))
    other = mean_interval(random.sample(values, len(values)), (-500.0, 500.0))
    assert other.value == pytest.approx(measured.value)
    assert (other.low, other.high) == pytest.approx((measured.low, measured.high), abs=0.05 * 1000)


def test_a_difference_has_the_interval_of_student_with_a_floor():
    x = rng(4).normal(30, 20, size=8)
    measured = difference_interval(x, 100.0)
    assert (measured.low, measured.high) == pytest.approx(stats.t.interval(0.95, 7, x.mean(), stats.sem(x)))
    equal = difference_interval([30.0] * 8, 100.0)
    half = 5 * stats.t.ppf(0.975, 7) / math.sqrt(8)
    assert (equal.low, equal.value, equal.high) == pytest.approx((30 - half, 30, 30 + half))


@pytest.mark.parametrize("q", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("n", [5, 10])
def test_the_interval_of_the_mean_covers_where_runs_fail_at_times(q, n):
    """Student's interval covers in 41 % at q=0.1 and five seeds."""
    seeds = rng(n)
    held = [
        measured.low <= 475 - 455 * q <= measured.high
        for measured in (mean_interval(np.where(seeds.random(n) < q, 20.0, 475.0), (20.0, 475.0)) for _ in range(400))
    ]
    assert np.mean(held) >= 0.93


def test_nothing_changes_its_input():
    x, y = rng(1).permutation(12) * 1.0, rng(2).permutation(12) * 2.0
    before = x.copy(), y.copy()
    for result in (mean_interval(x, (-1.0, 100.0)), difference_interval(x - y, 10.0), profile(x, y)):
        assert result
    assert (x == before[0]).all()
    assert (y == before[1]).all()


@pytest.mark.parametrize("bad", [[], [1, math.nan, 2], [1, math.inf, 2], 3.0, [[1, 2, 3], [4, 5, 6]]])
def test_what_does_not_fit_is_refused(bad):
    good = [1.0, 2.0, 3.0]
    for call in (
        lambda: mean_interval(bad),
        lambda: mean_interval(bad, (0.0, 1.0)),
        lambda: difference_interval(bad, 1.0),
        lambda: profile(bad, good),
        lambda: profile(good, bad),
    ):
        with pytest.raises(ValueError, match="must be"):
            call()


# Profiles


def test_a_profile_counts_and_wilson_bounds_it():
    share, low, high = profile([0, 0.2, 0.5, 0.5, 1], [-1, 0.2, 0.5, 0.9, 1])
    np.testing.assert_allclose(share, [1, 0.6, 0.2, 0.2, 0])
    for s, a, b in zip(share, low, high, strict=True):
        wanted = stats.binomtest(round(5 * s), 5).proportion_ci(0.95, method="wilson")
        assert (a, b) == pytest.approx(tuple(wanted), abs=1e-12)


def test_a_profile_stays_between_0_and_1():
    for n in range(1, 60):
        share, low, high = profile(np.arange(n), [-1, n])
        assert ((low >= 0) & (low <= share) & (share <= high) & (high <= 1)).all()


def test_an_interval_takes_less_than_ten_milliseconds():
    x = rng().normal(size=20)
    mean_interval(x, (-10.0, 10.0))  # weights are drawn once for each number of seeds
    assert min(repeat(lambda: mean_interval(x, (-10.0, 10.0)), number=1, repeat=20)) < 0.01
