from __future__ import annotations

import math
from itertools import combinations
from timeit import repeat

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from byzbench.reports import statistics
from byzbench.reports.statistics import Estimate, estimate, improvement, interval, iqm, profile, ties, worst_case

returns = st.lists(st.integers(-5000, 5000).map(lambda v: v / 10), min_size=3, max_size=25)


def rng(seed=0):
    return np.random.default_rng(seed)


# The interquartile mean


@pytest.mark.parametrize(
    "values, expected",
    [
        ([7], 7),
        ([1, 3], 2),
        ([0, 3, 9], (0.25 * 0 + 1 * 3 + 0.25 * 9) / 1.5),
        ([9, 0, 1, 3], 2),
        ([0, 10, 20, 50, 1000], (0.75 * 10 + 20 + 0.75 * 50) / 2.5),
        ([0, 0, 1, 2, 3, 100], (0.5 * 0 + 1 + 2 + 0.5 * 3) / 3),
    ],
)
def test_iqm_by_hand(values, expected):
    assert iqm(values) == pytest.approx(expected)


def test_iqm_is_the_mean_of_the_middle_half_of_the_quantile_function():
    for n in range(1, 13):
        x = np.sort(rng(n).normal(size=n))
        levels = (np.arange(120_000) + 0.5) / 120_000
        middle = levels[(levels > 0.25) & (levels < 0.75)]
        assert iqm(x) == pytest.approx(x[(middle * n).astype(int)].mean(), abs=1e-4)


def test_iqm_is_the_trimmed_mean_where_four_divides_n_and_not_elsewhere():
    x = rng().normal(size=(50, 8))
    np.testing.assert_allclose(iqm(x), stats.trim_mean(x, 0.25, axis=1))
    assert iqm([0, 0, 9]) != pytest.approx(stats.trim_mean([0, 0, 9], 0.25))


def test_iqm_takes_the_last_axis():
    x = rng().normal(size=(2, 3, 5))
    assert iqm(x).shape == (2, 3)
    assert iqm(x)[1, 2] == iqm(x[1, 2])


# The interval


def test_below_three_seeds_there_is_no_interval():
    for values in ([4.0], [4.0, 6.0]):
        assert estimate(values) == Estimate(np.mean(values), None, None, len(values), None)
        with pytest.raises(ValueError, match="3 values or more"):
            interval(values)


@pytest.mark.parametrize("n, level", [(3, 0.75), (4, 0.875), (5, 0.9375), (6, 0.96875)])
def test_up_to_six_seeds_it_is_the_range_and_says_how_sure_that_is(n, level):
    x = rng(n).normal(size=n)
    found = estimate(x)
    assert (found.low, found.high, found.level) == (x.min(), x.max(), level)


def test_few_seeds_are_flagged():
    assert [estimate(range(n)).flag for n in (2, 9, 10)] == ["few seeds", "few seeds", ""]


@pytest.mark.parametrize("n", [1, 3, 6, 7, 13])
def test_equal_returns_have_no_width(n):
    found = estimate([0.1] * n)
    assert found.value == 0.1
    assert found.low == found.high == (0.1 if n >= 3 else None)


def direct_interval(x, bounds=None):
    """By the sum over all pairs of gaps, with the limits of scipy's exact test of a share."""
    x, n = np.sort(x), len(x)
    edges = [x[0] if bounds is None else bounds[0], *x, x[-1] if bounds is None else bounds[1]]
    rise = stats.uniform(0.25, 0.5).cdf
    ends = []
    for side in (0, 1):
        error = []
        for i in range(n + 1):
            limits = stats.binomtest(i, n).proportion_ci(0.95, method="exact")
            error.append((edges[i + 1] - edges[i]) * abs(rise(limits[1 - side]) - rise(i / n)))
        total = sum(e * e for e in error)
        for i, j in combinations(range(1, n), 2):
            total += 2 * math.sqrt(i * (n - j) / (j * (n - i))) * error[i] * error[j]
        ends.append(float(iqm(x)) + (-1, 1)[side] * math.sqrt(total))
    return ends


@pytest.mark.parametrize("n", [7, 8, 10, 21])
def test_the_interval_is_the_sum_over_all_pairs_of_gaps(n):
    x = rng(n).lognormal(3, 1, size=n)
    np.testing.assert_allclose(interval(x), direct_interval(x), rtol=1e-6)


@pytest.mark.parametrize("n", [3, 5, 8])
def test_with_bounds_there_is_a_gap_beyond_each_end(n):
    x = rng(n).uniform(0, 100, size=n)
    np.testing.assert_allclose(interval(x, bounds=(-50, 500)), direct_interval(x, (-50, 500)), rtol=1e-6)


def test_of_one_gap_it_is_the_exact_interval_of_a_share():
    x = [0] * 4 + [1] * 6
    low, high = stats.binomtest(4, 10).proportion_ci(0.95, method="exact")
    np.testing.assert_allclose(interval(x), [1 - (2 * min(high, 0.75) - 0.5), 1 - (2 * max(low, 0.25) - 0.5)])


def test_bounds_reach_below_what_was_seen():
    solved = [490.0, 488, 492, 491, 489]
    assert estimate(solved).low == 488
    assert estimate(solved, bounds=(0, 500)).low < 400
    assert estimate(solved, bounds=(0, 500)).level == 0.95
    for bounds in ((489, 500), (0, 491), (0, math.inf), (math.nan, 500)):
        with pytest.raises(ValueError, match="bounds"):
            estimate(solved, bounds=bounds)


@given(returns)
@settings(deadline=None)
def test_the_interval_holds_the_value_and_stays_among_the_returns(values):
    found = estimate(values)
    assert min(values) - 1e-9 <= found.low <= found.value <= found.high <= max(values) + 1e-9


@given(returns, st.integers(-1000, 1000), st.integers(1, 100), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_shift_scale_mirror_and_order(values, shift, scale, random):
    found = estimate(values)
    shuffled = random.sample(values, len(values))
    assert estimate(shuffled) == found
    moved = estimate([shift + scale * v for v in values])
    mirrored = estimate([-v for v in values])
    for end, other in (("value", "value"), ("low", "high"), ("high", "low")):
        assert getattr(moved, end) == pytest.approx(shift + scale * getattr(found, end), abs=1e-6)
        assert getattr(mirrored, end) == pytest.approx(-getattr(found, other), abs=1e-9)


def test_nothing_changes_its_input():
    x, y = rng(1).permutation(12) * 1.0, rng(2).permutation(12) * 2.0
    before = x.copy(), y.copy()
    (
        estimate(x, bounds=(-1, 100)),
        improvement(x, y),
        worst_case({"a": x, "b": y}),
        ties({"a": x, "b": y}),
        profile(x, y),
    )
    assert (x == before[0]).all()
    assert (y == before[1]).all()


@pytest.mark.parametrize("bad", [[], [1, math.nan, 2], [1, math.inf, 2], 3.0, [[1, 2, 3], [4, 5, 6]]])
def test_what_does_not_fit_is_refused(bad):
    good = [1.0, 2.0, 3.0]
    for call in (
        lambda: estimate(bad),
        lambda: improvement(bad, good),
        lambda: improvement(good, bad),
        lambda: worst_case({"a": good, "b": bad}),
        lambda: ties({"a": good, "b": bad}),
        lambda: profile(bad, good),
        lambda: profile(good, bad),
    ):
        with pytest.raises(ValueError, match="must be"):
            call()


# Coverage. Standard errors of a cell are below 0.3, those of cells near 98 below 0.1.


def bimodal(seeds, shape):
    return np.where(seeds.random(shape) < 0.5, seeds.normal(20, 5, shape), seeds.normal(490, 8, shape))


RETURNS = {
    "normal": lambda seeds, shape: seeds.normal(300, 40, shape),
    "lognormal": lambda seeds, shape: seeds.lognormal(0, 1, shape),
    "ceiling": lambda seeds, shape: 500 - seeds.gamma(2, 20, shape),
    "bimodal": bimodal,
}


def coverage(rule, name, n, repeats):
    truth = float(iqm(RETURNS[name](rng(9), (1_000_000,))))
    low, high = rule(RETURNS[name](rng(n), (repeats, n)))
    return 100 * np.mean((low <= truth) & (truth <= high))


def percentile_bootstrap(x):
    drawn = iqm(x[:, rng(1).integers(0, x.shape[1], (200, x.shape[1]))])
    return np.quantile(drawn, [0.025, 0.975], axis=1)


@pytest.mark.parametrize("name", RETURNS)
@pytest.mark.parametrize("n", [5, 10, 20])
def test_the_interval_covers(name, n):
    assert 92 <= coverage(interval, name, n, 20_000) <= 98


def test_the_test_of_coverage_can_fail():
    assert coverage(percentile_bootstrap, "normal", 5, 4000) < 92


@pytest.mark.parametrize("n", [3, 4])
def test_three_and_four_seeds_are_as_sure_as_they_say(n):
    assert coverage(interval, "normal", n, 20_000) == pytest.approx(100 * (1 - 2.0 ** (1 - n)), abs=1)


# The worst case


def test_the_worst_attack_is_the_least():
    cells = {"none": [500.0] * 5, "alie": [20.0, 22, 21, 19, 23], "noise": [300.0, 310, 305, 290, 295]}
    worst = worst_case(cells)
    assert worst.name == "alie"
    assert worst.naive == estimate(cells["alie"])
    assert worst.crossfit == pytest.approx(21, abs=0.5)


def test_crossfit_is_the_mean_over_halvings():
    x = {"a": np.array([1.0, 9, 2, 8]), "b": np.array([7.0, 3, 6, 4])}
    scored = []
    for half in combinations(range(4), 2):
        rest = [i for i in range(4) if i not in half]
        chosen = min(x, key=lambda name: iqm(x[name][list(half)]))
        scored.append(iqm(x[chosen][rest]))
    assert worst_case(x).crossfit == pytest.approx(np.mean(scored), abs=0.1)


def test_equal_attacks_are_bracketed():
    seeds = rng()
    found = [worst_case({str(a): seeds.normal(size=10) for a in range(8)}) for _ in range(150)]
    naive, crossfit = (np.array([(w.naive.value, w.crossfit) for w in found])).T
    assert naive.mean() < -0.35
    assert abs(crossfit.mean()) < 0.1


def test_one_leading_attack_makes_crossfit_optimistic():
    seeds = rng()
    found = [worst_case({str(a): seeds.normal(-0.5 * (a == 3), 1, 10) for a in range(8)}) for _ in range(150)]
    assert np.mean([w.naive.value for w in found]) < -0.5 < np.mean([w.crossfit for w in found])


def test_attacks_need_not_have_the_same_seeds():
    worst = worst_case({"a": [1.0, 2, 3], "b": [5.0, 6, 7, 8, 9]})
    assert worst.name == "a"
    assert 1 <= worst.crossfit <= 3


def test_without_seeds_enough_there_is_no_crossfit_and_without_attacks_no_worst():
    worst = worst_case({"a": [3.0, 4.0], "b": [1.0, 2.0]})
    assert (worst.name, worst.naive.value, worst.naive.low, worst.crossfit) == ("b", 1.5, None, None)
    with pytest.raises(ValueError, match="at least one attack"):
        worst_case({})


# The probability of improvement


def test_improvement_counts_pairs():
    assert improvement([1, 2, 3], [0, 2, 2, 5]).value == (1 + (1 + 2 * 0.5) + 3) / 12
    x, y = rng(1).integers(0, 9, 7), rng(2).integers(0, 9, 11)
    assert improvement(x, y).value == pytest.approx(stats.mannwhitneyu(x, y).statistic / 77)


@given(returns, returns)
@settings(deadline=None)
def test_improvement_is_a_probability_and_turns_around(x, y):
    there, back = improvement(x, y), improvement(y, x)
    assert 0 <= there.low <= there.value <= there.high <= 1
    assert there.low < there.high
    assert (there.low, there.high) == pytest.approx((1 - back.high, 1 - back.low))


def test_its_ends_solve_the_equation():
    found = improvement([1, 4, 5, 8, 9], [0, 2, 3, 6, 7, 7])
    for t in (found.low, found.high):
        spread = t * (1 - t) * (1 + 4.5 * ((1 - t) / (2 - t) + t / (1 + t))) / 30
        assert (found.value - t) ** 2 == pytest.approx(stats.norm.ppf(0.975) ** 2 * spread)


def test_improvement_of_five_over_five():
    assert improvement([6, 7, 8, 9, 10], [1, 2, 3, 4, 5]).low > 0.5
    assert improvement([1, 7, 8, 9, 10], [2, 3, 4, 5, 6]).low < 0.5
    same = improvement([1] * 5, [1] * 5)
    assert same.value == 0.5
    assert same.low == pytest.approx(1 - same.high)


def test_improvement_of_less_than_three_has_no_interval():
    assert improvement([1, 2], [0, 0, 0]) == Estimate(1.0, None, None, 2, None)


# Ranks


def test_equal_rows_share_a_rank_and_separated_ones_do_not():
    rows = {"low": [20, 25, 22, 18, 15], "b": [489, 491, 480, 500, 470], "a": [490, 488, 492, 485, 495]}
    assert ties(rows) == {"a": 1, "b": 1, "low": 3}
    assert list(ties(rows)) == ["a", "b", "low"]


def test_rows_chain_to_the_leader_not_to_their_neighbour():
    """Each is close to the next one, yet the last is far from the first."""
    spread = np.array([-1.0, -0.5, 0, 0.5, 1])
    assert ties({name: spread - 0.8 * k for k, name in enumerate("abcdef")})["f"] > 1


def test_paired_seeds_see_what_unpaired_ones_do_not():
    luck = rng(1).normal(0, 50, size=10)
    better, worse = luck + 3 + rng(2).normal(0, 0.5, 10), luck
    assert ties({"better": better, "worse": worse}) == {"better": 1, "worse": 1}
    seeds = range(10)
    paired = {
        "better": dict(zip(seeds, better, strict=True)),
        "worse": dict(zip(reversed(seeds), worse[::-1], strict=True)),
    }
    assert ties(paired) == {"better": 1, "worse": 2}
    other = {"better": paired["better"], "worse": {seed + 1: v for seed, v in paired["worse"].items()}}
    assert ties(other) == {"better": 1, "worse": 1}


@pytest.mark.parametrize("paired", [False, True])
def test_two_rows_are_told_apart_where_the_test_of_student_says_so(paired):
    for shift in np.linspace(0, 3, 31):
        x, y = rng(3).normal(shift, 1, 8), rng(4).normal(0, 2, 8)
        p = stats.ttest_rel(x, y).pvalue if paired else stats.ttest_ind(x, y, equal_var=False).pvalue
        rows = {"x": dict(enumerate(x)), "y": dict(enumerate(y))} if paired else {"x": x, "y": y}
        told = iqm(x) > iqm(y) and x.mean() > y.mean() and p < 0.05
        assert (ties(rows)["y"] == 2) == told or iqm(x) < iqm(y)


def test_a_leader_with_the_smaller_mean_leads_alone_for_nothing():
    """Its interquartile mean is larger, its mean significantly smaller: that is no reason to rank the other below."""
    first, second = np.array([490.0] * 23 + [20] * 7), np.linspace(479, 481, 30)
    assert iqm(first) > iqm(second)
    assert stats.ttest_ind(first, second, equal_var=False).pvalue < 0.05
    assert ties({"first": first, "second": second}) == {"first": 1, "second": 1}


def test_the_level_is_that_of_holm_over_all_pairs():
    def row(middle):
        return middle + np.array([-2.0, -1, 0, 1, 2])

    p = stats.ttest_ind(row(2.5), row(0), equal_var=False).pvalue
    assert 0.05 / 3 < p < 0.05
    assert ties({"a": row(2.5), "b": row(0)}) == {"a": 1, "b": 2}
    assert ties({"a": row(2.5), "b": row(0), "c": row(1)}) == {"a": 1, "c": 1, "b": 1}
    # A row that is far from both uses up two of three pairs, and the last is held to 5 % again.
    assert ties({"a": row(2.5), "b": row(0), "far": row(-100)}) == {"a": 1, "b": 2, "far": 3}


def test_equal_rows_rarely_split():
    seeds = rng()
    split = [max(ties({str(k): seeds.normal(size=6) for k in range(8)}).values()) > 1 for _ in range(200)]
    assert np.mean(split) < 0.06


def test_ranks_at_the_edges():
    assert ties({}) == {}
    assert ties({"a": [1.0]}) == {"a": 1}
    assert ties({"a": [900.0, 901], "b": [1.0, 2]}) == {"a": 1, "b": 1}, "too few seeds to tell"
    assert ties({"b": [500.0] * 3, "a": [500.0] * 3, "c": [499.0] * 3}) == {"a": 1, "b": 1, "c": 3}


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


def test_an_estimate_takes_less_than_two_milliseconds():
    x = rng().normal(size=1000)
    assert min(repeat(lambda: estimate(x), setup=statistics._errors.cache_clear, number=1, repeat=20)) < 0.002
