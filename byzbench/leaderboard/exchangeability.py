"""Whether claims and runs of the same cells look alike: permutation tests of areas under learning curves, one-sided.

Under the hypothesis that a claim is honest, the values of a group (a claim and the runs that it is compared with) are
exchangeable: any of them could have been the claim. The statistic is the sum of the claims over all groups, and its
p-value the share of all choices of claims, within each group, whose sum is at least as large.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import combinations
from math import comb, prod

import numpy as np

from byzbench.experiments.curves import area_under_curve
from byzbench.leaderboard.schema import Cell
from byzbench.leaderboard.suites import Stratum

LEVELS = {"own seeds": 0.001, "fresh seeds": 0.0005, "relabelled agents": 0.0005}
"""The probability with which each test contradicts an honest entry: 0.002 together."""

CLOSE = 0.02
"""By how much claims are lowered before they are compared, in units of the way from random to the reference: a
difference that small contradicts nothing."""

_DRAWS = 200_000
_ENUMERATED = 100_000
_EXACT = 1_000_000
_TIE = 1e-9

Group = tuple[np.ndarray, np.ndarray]
"""Values of claims, and of the runs that they are compared with."""


def area(cell: Cell, stratum: Stratum) -> float:
    """Return the area under the evaluation curve of a cell, divided by the budget: a mean return.

    The curve starts at a random policy's return: see `byzbench.experiments.curves.area_under_curve`. A point that is
    not finite counts as random, and so does every point of a cell that is not `ok`. The points of a cell that is older
    than dates of evaluations divide the budget evenly.
    """
    if cell.status != "ok" or not cell.curve:
        return stratum.random
    points = [None if point is None else float(point) for point in cell.curve]
    dates = cell.dates or tuple((1 + np.arange(len(points))) * stratum.trajectories / len(points))
    return area_under_curve(dates, points, stratum.random, stratum.trajectories)


def normalised_area(cell: Cell, stratum: Stratum, reference: float) -> float:
    """Return the area under the curve of a cell: 0 at a random policy, 1 at the reference, cut off nowhere."""
    return (area(cell, stratum) - stratum.random) / (reference - stratum.random)


def claim_group(claims: Iterable[float], runs: Iterable[float], sign: int) -> Group:
    """Return values that can be compared: larger is what pays, and claims are lowered by `CLOSE`.

    Args:
        claims: normalised areas that were submitted.
        runs: those of the runs here.
        sign: 1 where a larger area pays the entrant, -1 where a smaller one does.
    """
    return sign * np.fromiter(claims, float) - CLOSE, sign * np.fromiter(runs, float)


def exchange_p(groups: Sequence[Group]) -> float:
    """Return the p-value of claims that are larger than the runs that they are compared with.

    It is exact where the choices of claims can be enumerated, by halves of the groups; else a Monte Carlo estimate
    with a fixed seed, which is never below 1 / (draws + 1).

    Example:
        >>> exchange_p([(np.array([3.0]), np.array([1.0, 2.0]))])  # doctest: +ELLIPSIS
        0.333...
    """
    pooled = [(np.concatenate(pair), len(pair[0])) for pair in groups if len(pair[0]) and len(pair[1])]
    observed = sum(float(values[:size].sum()) for values, size in pooled) - _TIE
    halves = pooled[::2], pooled[1::2]
    counts = [prod(comb(len(values), size) for values, size in half) for half in halves]
    if max(counts) > _EXACT:
        return _monte_carlo(pooled, observed)
    one, other = (_all_sums(half) for half in halves)
    other.sort()
    reached = len(other) - np.searchsorted(other, observed - one)
    return float(reached.mean() / len(other))


def least_p(groups: Sequence[Group]) -> float:
    """Return the smallest p-value that groups of these sizes can have."""
    return 1 / prod(comb(len(claims) + len(runs), len(claims)) for claims, runs in groups)


def _all_sums(pooled: Sequence[tuple[np.ndarray, int]]) -> np.ndarray:
    """Return the sum of the claims for every choice of claims."""
    sums = np.zeros(1)
    for values, size in pooled:
        sums = (sums[:, None] + values[_choices(len(values), size)].sum(1)).ravel()
    return sums


@cache
def _choices(count: int, size: int) -> np.ndarray:
    """Return every choice of `size` of `count` values: indices [choices, size]."""
    return np.array(list(combinations(range(count), size)))


def _monte_carlo(pooled: Sequence[tuple[np.ndarray, int]], observed: float) -> float:
    rng = np.random.default_rng(0)
    sums = np.zeros(_DRAWS)
    for values, size in pooled:
        if comb(len(values), size) <= _ENUMERATED:
            sums += rng.choice(values[_choices(len(values), size)].sum(1), _DRAWS)
        else:
            sums += values[rng.random((_DRAWS, len(values))).argsort(1)[:, :size]].sum(1)
    return float((1 + (sums >= observed).sum()) / (1 + _DRAWS))
