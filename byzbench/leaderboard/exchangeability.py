"""Permutation tests of submitted areas under learning curves, the claims, against runs of the same cells.

Under the null hypothesis that claims are honest, the values of a group (claims and the runs that they are compared
with) are exchangeable. The statistic is the sum of the claims over all groups. Its p-value is the share of all choices
of claims, within each group, whose sum is at least as large. A two-sided test takes twice the smaller one of the
p-values for larger and for smaller claims.
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
"""Level of each test: the largest probability with which it contradicts an honest entry; 0.002 together."""

CLOSE = 0.02
"""Amount subtracted from claims before the comparison, in units of the difference between reference and random: a
difference of this size is no contradiction."""

_DRAWS = 200_000
"""Number of Monte Carlo draws."""

_ENUMERATED = 100_000
"""Largest number of choices of one group that a Monte Carlo draw takes from a list."""

_EXACT = 1_000_000
"""Largest number of choices of a half of the groups that is enumerated."""

_TIE = 1e-9
"""Tolerance within which two sums are equal."""

Group = tuple[np.ndarray, np.ndarray]
"""Values of claims, and of the runs that they are compared with."""


def area(cell: Cell, stratum: Stratum) -> float:
    """Return the area under the evaluation curve of a cell, divided by the budget: a mean return.

    The curve starts at the return of a random policy (`byzbench.experiments.curves.area_under_curve`). A point that is
    not finite has the return of a random policy, and so has every point of a cell that is not `ok`. Where a cell has no
    dates of evaluations, its points divide the budget evenly.

    Args:
        cell: The cell.
        stratum: The stratum of the cell.
    """
    if cell.status != "ok" or not cell.curve:
        return stratum.random
    points = [None if point is None else float(point) for point in cell.curve]
    dates = cell.dates or tuple((1 + np.arange(len(points))) * stratum.trajectories / len(points))
    return area_under_curve(dates, points, stratum.random, stratum.trajectories)


def normalised_area(cell: Cell, stratum: Stratum, reference: float) -> float:
    """Return the area under the curve of a cell, scaled to 0 at a random policy and 1 at the reference, not clipped."""
    return (area(cell, stratum) - stratum.random) / (reference - stratum.random)


def claim_group(claims: Iterable[float], runs: Iterable[float], sign: int) -> Group:
    """Return claims and runs in a form for `exchange_p`: larger values are in the entrant's favour.

    Args:
        claims: Normalised areas of submitted cells; `CLOSE` is subtracted from sign * claims.
        runs: Normalised areas of the runs here.
        sign: 1 where a larger area is in the entrant's favour, -1 where a smaller one is.

    Example:
        >>> claims, runs = claim_group([0.5], [0.25, 0.5], sign=-1)
        >>> print(claims.round(2), runs)
        [-0.52] [-0.25 -0.5 ]
    """
    return sign * np.fromiter(claims, float) - CLOSE, sign * np.fromiter(runs, float)


def exchange_p(groups: Sequence[Group]) -> float:
    """Return the one-sided p-value of the hypothesis that claims are not larger than the runs.

    It is exact where the choices of claims can be enumerated, separately for two halves of the groups. Otherwise it is
    a Monte Carlo estimate with a fixed seed, which is never below 1 / (draws + 1).

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
    first, second = (_all_sums(half) for half in halves)
    second.sort()
    num_as_large = len(second) - np.searchsorted(second, observed - first)
    return float(num_as_large.mean() / len(second))


def least_p(groups: Sequence[Group]) -> float:
    """Return the smallest p-value that groups of these sizes can have.

    Example:
        >>> least_p([(np.array([3.0]), np.array([1.0, 2.0, 0.0]))])
        0.25
    """
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
    """Estimate the p-value of an observed sum of claims."""
    rng = np.random.default_rng(0)
    sums = np.zeros(_DRAWS)
    for values, size in pooled:
        if comb(len(values), size) <= _ENUMERATED:
            sums += rng.choice(values[_choices(len(values), size)].sum(1), _DRAWS)
        else:
            sums += values[rng.random((_DRAWS, len(values))).argsort(1)[:, :size]].sum(1)
    return float((1 + (sums >= observed).sum()) / (1 + _DRAWS))
