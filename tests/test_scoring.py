"""Scores of entries, their intervals, and the order that the data allow."""

from __future__ import annotations

import doctest
import importlib
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from byzbench.experiments import metrics
from byzbench.experiments.curves import area_under_curve
from byzbench.reports.estimators import bounded_interval, crossfit, ratio_interval, seed_cvar, selection_bias
from byzbench.reports.ordering import describe_separation, joining, pair_test, rank_ranges, separated
from byzbench.reports.paired_tests import SD_FLOOR, certainly_better, holm, paired_t
from byzbench.reports.scoring import EntryRuns, StratumRuns, cell_scores, score_entry


def entry(*strata: np.ndarray, clean: float | np.ndarray = 1.0) -> EntryRuns:
    """An entry with scores [A, n] in each stratum; random 0 and reference 1, so that AUC and score agree."""
    rows = [np.atleast_2d(np.asarray(scores, float)) for scores in strata]
    return EntryRuns(
        tuple(
            StratumRuns(
                f"s{i}", 0.0, 1.0, np.broadcast_to(clean, x.shape[1:]), {f"a{j}": row for j, row in enumerate(x)}
            )
            for i, x in enumerate(rows)
        )
    )


@pytest.mark.parametrize("module", ["paired_tests", "estimators", "scoring", "ordering"])
def test_examples_hold(module: str) -> None:
    results = doctest.testmod(importlib.import_module(f"byzbench.reports.{module}"))
    assert results.attempted
    assert not results.failed


# Area under the curve and scores of cells


def test_area_starts_at_random_is_cut_at_the_budget_and_holds_the_last_value() -> None:
    assert area_under_curve([100], [50.0], start=10.0, budget=100) == pytest.approx(30)
    assert area_under_curve([100], [50.0], start=10.0, budget=50) == pytest.approx(20)
    assert area_under_curve([100], [50.0], start=10.0, budget=200) == pytest.approx(40)
    assert area_under_curve([50, 100, 150], [50.0, 70.0, 1e9], 10.0, 100) == pytest.approx((30 + 60) / 2)
    assert np.isnan(area_under_curve([50, 100], [np.nan, 1.0], 0.0, 100))


def test_scores_are_cut_below_and_not_above_and_a_diverged_run_is_at_random() -> None:
    np.testing.assert_allclose(cell_scores([-5, 0, 15, 30, np.nan, np.inf], 0, 20), [0, 0, 0.75, 1.5, 0, 0])


def test_runs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="not above random"):
        StratumRuns("s", 1.0, 1.0, np.ones(3), {})
    with pytest.raises(ValueError, match="same number of seeds"):
        StratumRuns("s", 0.0, 1.0, np.ones(3), {"a": np.ones(4)})
    with pytest.raises(ValueError, match="at least one attack"):
        score_entry(EntryRuns((StratumRuns("s", 0.0, 1.0, np.ones(3), {}),)))
    with pytest.raises(ValueError, match="different names"):
        EntryRuns((StratumRuns("s", 0.0, 1.0, np.ones(3), {}),) * 2)
    with pytest.raises(ValueError, match="same strata"):
        rank_ranges([entry([0.1, 0.2, 0.3]), entry([[0.1, 0.2, 0.3]] * 2)])
    with pytest.raises(ValueError, match="same strata"):
        joining(entry([0.1, 0.2, 0.3]), entry([0.1, 0.2]))


# Scores of entries


def test_the_score_is_the_mean_over_strata_of_the_lowest_mean() -> None:
    rng = np.random.default_rng(0)
    cells = [rng.random((4, 9)), rng.random((2, 9))]
    score = score_entry(entry(*cells, clean=rng.random(9)))
    assert score.worst.value == pytest.approx(np.mean([x.mean(1).min() for x in cells]))
    assert score.mean == pytest.approx(np.mean([x.mean() for x in cells]))
    assert [s.worst_attack for s in score.strata] == [f"a{x.mean(1).argmin()}" for x in cells]
    assert score.cvar == pytest.approx(np.mean([seed_cvar(x[x.mean(1).argmin()]) for x in cells]))
    assert score.worst.low is not None
    assert score.worst.low < score.worst.value < score.worst.high


def test_below_three_seeds_there_is_neither_interval_nor_test() -> None:
    score = score_entry(entry([0.1, 0.2]))
    assert (score.worst.low, score.crossfit, score.strata[0].harmful) == (None, None, frozenset())
    assert not score.strata[0].retention["a0"].defined
    assert rank_ranges([entry([0.0, 0.0]), entry([1.0, 1.0])]) == [(1, 2), (1, 2)]
    assert pair_test(entry([0.0, 0.0]), entry([1.0, 1.0])).p is None
    with pytest.raises(ValueError, match="3 seeds or more"):
        paired_t([1.0, 2.0])


def test_cvar_is_that_of_the_metrics_of_a_run() -> None:
    for n in (1, 3, 8, 10, 12):
        values = np.random.default_rng(n).random(n)
        assert seed_cvar(values) == pytest.approx(metrics.cvar(torch.tensor(values)))


def test_the_worst_attack_is_named_only_where_it_harmed_and_ties_are_found() -> None:
    rng = np.random.default_rng(0)
    clean = 0.8 + 0.3 * rng.standard_normal(10)
    noise = 0.02 * rng.standard_normal((4, 10))
    harmless = score_entry(entry(clean + noise, clean=clean)).strata[0]
    assert harmless.harmful == frozenset()
    assert harmless.named_attack is None
    assert harmless.tied == {"a0", "a1", "a2", "a3"}
    hit = score_entry(entry(clean + noise - np.array([[0.4], [0.4], [0.0], [0.2]]), clean=clean)).strata[0]
    assert hit.harmful == {"a0", "a1", "a3"}
    assert hit.tied == {"a0", "a1"}
    assert hit.named_attack in hit.tied


def test_the_crossfitted_value_is_unbiased_for_equal_attacks_and_no_value_where_one_leads() -> None:
    rng = np.random.default_rng(0)
    equal = [rng.normal(0.5, 0.1, (5, 10)) for _ in range(200)]
    assert np.mean([crossfit([x]) for x in equal]) == pytest.approx(0.5, abs=0.01)
    assert np.mean([x.mean(1).min() for x in equal]) < 0.48
    leads = np.array([[0.1] * 10, [0.9] * 10])
    assert crossfit([leads]) == pytest.approx(0.1)
    assert selection_bias([leads]) == pytest.approx(0.0)


@pytest.mark.parametrize("n, successes", [(8, 8), (10, 7), (12, 0), (10, 9)])
def test_of_runs_that_succeed_or_fail_the_interval_is_that_of_clopper_and_pearson(n: int, successes: int) -> None:
    interval = bounded_interval([(np.arange(n) < successes)[None].astype(float)])
    exact = stats.binomtest(successes, n).proportion_ci(0.95, method="exact")
    assert (interval.low, interval.high) == pytest.approx((exact.low, exact.high), abs=0.015)


@given(st.integers(0, 1000), st.integers(3, 12))
@settings(max_examples=20, deadline=None)
def test_the_lower_end_never_falls_when_scores_rise(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    cells = [rng.random((3, n)), rng.random((2, n))]
    risen = [x + rng.random(x.shape) * (rng.random(x.shape) < 0.3) for x in cells]
    assert bounded_interval(risen).low >= bounded_interval(cells).low - 1e-12


@pytest.mark.parametrize("q", [0.1, 0.5])
def test_the_interval_of_a_score_holds_where_runs_fail_all_together_or_each_by_itself(q: float) -> None:
    rng, trials = np.random.default_rng(0), 150
    for shape in ((1, 8), (5, 8)):
        cells = [[(rng.random(shape) >= q).astype(float) for _ in range(2)] for _ in range(trials)]
        intervals = [bounded_interval(x) for x in cells]
        assert sum(x.low <= 1 - q <= x.high for x in intervals) >= 0.94 * trials


def test_retention_is_a_ratio_of_sums_and_undefined_where_the_clean_runs_do_not_learn() -> None:
    clean, attacked = np.array([0.8, 1.0, 0.6, 0.9, 0.7]), np.array([0.4, 0.5, 0.3, 0.5, 0.3])
    retention = score_entry(entry(attacked, clean=clean)).strata[0].retention["a0"]
    assert retention.value == pytest.approx(attacked.sum() / clean.sum())
    assert retention.defined
    assert retention.low < retention.value < retention.high < 0.9
    weak = score_entry(entry(attacked / 4, clean=clean / 4))
    assert not weak.strata[0].retention["a0"].defined
    assert weak.mean_retention() == (None, 0, 1)
    lost = score_entry(entry(attacked, clean=np.zeros(5))).strata[0].retention["a0"]
    assert (lost.value, lost.low, lost.high, lost.defined) == (None, None, None, False)


def test_the_ends_of_a_ratio_are_where_fiellers_equation_holds() -> None:
    rng = np.random.default_rng(0)
    x = 1 + 0.1 * rng.standard_normal(10)
    y = 0.4 * x + 0.8 * rng.standard_normal(10)
    _, high = ratio_interval(y, x)
    rest = y - high * x
    variance = rest.var(ddof=1) + SD_FLOOR**2
    assert rest.mean() ** 2 == pytest.approx(stats.t.ppf(0.975, 9) ** 2 * variance / 10)


def test_the_ends_of_a_ratio_allow_for_a_run_that_no_seed_has_shown() -> None:
    one, none = (ratio_interval(np.full(10, y), np.ones(10)) for y in (1.0, 0.0))
    assert one[0] == pytest.approx(0.025 ** (1 / 10), abs=0.02)
    assert none[1] == pytest.approx(1 - 0.025 ** (1 / 10), abs=0.02)


def test_joining_is_paired_and_in_each_stratum() -> None:
    rng = np.random.default_rng(0)
    luck = 0.3 * rng.standard_normal(10)
    federation, alone = entry(0.9 + luck, 0.3 + luck), entry(luck, luck, clean=0.6 + luck)
    benefit = joining(federation, alone)
    assert [d.value for d in benefit.strata.values()] == pytest.approx([0.3, -0.3], abs=0.05)
    assert benefit.overall.value == pytest.approx(0.0, abs=0.05)
    assert benefit.strata["s1"].high < 0
    assert benefit.overall.low < 0 < benefit.overall.high


# Order


def test_holm_is_that_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    for m in (1, 3, 10):
        p = rng.random(m) ** 6
        order, expected = np.argsort(p), np.zeros(m, bool)
        for step, i in enumerate(order):
            if p[i] * (m - step) > 0.05:
                break
            expected[i] = True
        np.testing.assert_array_equal(holm(p), expected)


def test_a_wide_interval_earns_no_first_rank() -> None:
    """DecByzPG with 0.09 among rows of 1.00 was shown as rank 1."""
    weak = entry([0.0, 0.0, 0.45, 0.0, 0.0, 0.36, 0.09, 0.0, 0.0, 0.0])
    rows = [weak, *(entry(np.ones(10)) for _ in range(4))]
    assert rank_ranges(rows) == [(5, 5), (1, 4), (1, 4), (1, 4), (1, 4)]


def test_rows_of_one_on_every_seed_are_apart_from_a_weak_row_if_a_worse_row_is() -> None:
    """Rows of 1.00 were "not apart" from 0.09 while a row of 0.44 to 1.00 was."""
    sure, mixed, weak = np.ones(8), np.array([0.44, 1, 1, 1, 0.9, 1, 1, 1]), np.full(8, 0.09)
    assert separated([entry(weak), entry(mixed), entry(sure)]) == {(1, 0), (2, 0)}
    assert rank_ranges([entry(weak), entry(mixed), entry(sure), entry(sure)]) == [(4, 4), (1, 3), (1, 3), (1, 3)]


def test_a_better_row_follows_a_worse_one_that_the_test_separates() -> None:
    """One seed far above the others raises the mean and the variance more: the relation is closed."""
    low, middle = np.zeros(6), np.full(6, 0.2)
    high = np.array([0.2, 0.2, 0.2, 0.2, 0.2, 9.0])
    rows = [low, middle, high]
    assert not certainly_better(rows)[2, 0]
    assert separated([entry(row) for row in rows]) == {(1, 0), (2, 0)}


def test_a_worse_row_follows_a_better_one_that_the_test_separates_and_the_relation_is_transitive() -> None:
    """One seed far below the others lowers the mean and raises the variance more."""
    best, second = np.array([9.79] + [10.0] * 7), np.full(8, 9.8)
    unlucky = np.array([9.8] * 7 + [1.0])
    last = unlucky - np.array([0.2, -0.01] + [0.2] * 6)
    rows = [best, second, unlucky, last]
    tested = certainly_better(rows)
    assert {(int(i), int(j)) for i, j in np.argwhere(tested)} == {(0, 1), (2, 3)}
    assert separated([entry(row) for row in rows]) == {(0, 1), (0, 2), (0, 3), (1, 3), (2, 3)}


def test_neither_names_nor_the_order_of_entries_matter() -> None:
    rng = np.random.default_rng(0)
    rows = [entry(*(level + 0.2 * rng.standard_normal((2, 3, 9)))) for level in (0.2, 0.5, 0.6, 0.9)]
    rows.append(rows[1])
    expected = rank_ranges(rows)
    assert expected[1] == expected[4]
    assert expected[0] != expected[3]
    for order in itertools.permutations(range(5)):
        assert rank_ranges([rows[i] for i in order]) == [expected[i] for i in order]


@st.composite
def boards(draw: st.DrawFn) -> list[list[np.ndarray]]:
    """Boards of few levels, so that rows that are nowhere worse than others, and equal ones, are common."""
    num_rows, n = draw(st.integers(2, 6)), draw(st.integers(3, 10))
    rng, levels = np.random.default_rng(draw(st.integers(0, 10_000))), draw(st.integers(2, 4))
    rows = [[rng.integers(levels, size=(2, n)) / 2 for _ in range(2)] for _ in range(num_rows)]
    for _ in range(draw(st.integers(0, 4))):
        above = rows[rng.integers(len(rows))]
        rows.append([x + rng.integers(levels, size=x.shape) * draw(st.sampled_from([0.0, 0.1, 3.0])) for x in above])
        below = rows[rng.integers(len(rows))]
        rows.append([x * (rng.random(x.shape) > draw(st.sampled_from([0.0, 0.1]))) for x in below])
    return rows


@given(boards())
@settings(max_examples=150, deadline=None)
def test_a_row_that_is_nowhere_worse_never_has_a_worse_range(rows: list[list[np.ndarray]]) -> None:
    ranges = rank_ranges([entry(*row) for row in rows])
    pairs = separated([entry(*row) for row in rows])
    assert not pairs & {(j, i) for i, j in pairs}
    for one, other in itertools.permutations(range(len(rows)), 2):
        if all((a >= b).all() for a, b in zip(rows[one], rows[other], strict=True)):
            assert ranges[one][0] <= ranges[other][0]
            assert ranges[one][1] <= ranges[other][1]
            if all((a == b).all() for a, b in zip(rows[one], rows[other], strict=True)):
                assert ranges[one] == ranges[other]
    for first, last in ranges:
        assert 1 <= first <= last <= len(rows)


def test_equal_entries_are_rarely_separated_and_a_named_pair_is_found() -> None:
    """At the spread of a pilot: deviation 0.3 between seeds, 0.15 within a pair of one seed."""
    rng, trials = np.random.default_rng(0), 100
    split = separations = 0
    for _ in range(trials):
        luck = 0.8 + 0.3 * rng.standard_normal(10)
        rows = [entry(luck + 0.1 * rng.standard_normal(10)) for _ in range(6)]
        split += bool(separated(rows))
        better = entry(luck + 0.2 + 0.1 * rng.standard_normal(10))
        separations += pair_test(better, rows[0]).p < 0.05
    assert split <= 0.1 * trials
    assert separations >= 0.8 * trials


def test_separation_in_a_sentence() -> None:
    assert describe_separation("abc", set()).startswith("Nothing is separated")
    assert describe_separation("abcd", {(0, 1), (0, 2), (0, 3), (1, 3)}) == "4 of 6 pairs are separated."
    assert describe_separation("ab", {(1, 0)}) == "1 of 1 pairs is separated: b is better than a."
