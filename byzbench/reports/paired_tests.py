"""Tests of paired differences over few seeds: Student's t with a variance floor, and Holm's rule for many of them.

A joint max-T test gains nothing here. Over all pairs of K rows on n seeds its critical value, by sign changes of the
seeds, is 4.4 (K=6, n=8), 4.5 (K=10, n=10) and 5.2 (K=20, n=12); Holm's first step has 4.4, 4.7 and 5.3. By resampling
seeds, with Student's correction, it is smaller, and up to 12 % of boards of equal rows are then split instead of 5 %.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

CONFIDENCE = 0.95
"""Level of every interval, and one minus the level of every family of tests."""

MIN_SEEDS = 3
"""Seeds below which there is neither an interval nor a test."""

SD_FLOOR = 0.05
"""Least standard deviation over seeds that a difference of two scores is taken to have."""


def paired_t(differences: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of paired differences [..., n] and its standard error, max(sd, SD_FLOOR) / sqrt(n).

    Args:
        differences: One row of n seeds for each comparison, n at least `MIN_SEEDS`.

    Returns:
        The means [...] and the standard errors [...].

    Raises:
        ValueError: There are fewer than `MIN_SEEDS` seeds.

    Example:
        >>> mean, error = paired_t([0.2, 0.2, 0.2, 0.2])
        >>> print(f"{mean:.2f} {error:.3f}")
        0.20 0.025
    """
    rows = np.asarray(differences, float)
    num_seeds = rows.shape[-1]
    if num_seeds < MIN_SEEDS:
        raise ValueError(f"a paired test needs {MIN_SEEDS} seeds or more, got {num_seeds}")
    return rows.mean(-1), np.maximum(rows.std(-1, ddof=1), SD_FLOOR) / np.sqrt(num_seeds)


def holm(p_values: ArrayLike) -> np.ndarray:
    """Select the hypotheses that Holm's step-down rule rejects at the family level 1 - CONFIDENCE.

    Args:
        p_values: [m], one for each hypothesis.

    Returns:
        A mask [m], true where rejected. Equal p-values are all rejected or all kept.

    Example:
        >>> holm([0.001, 0.04, 0.02]).tolist()
        [True, True, True]
        >>> holm([0.04, 0.001, 0.04]).tolist()
        [False, True, False]
    """
    p = np.asarray(p_values, float)
    ascending = np.sort(p)
    not_rejected = ascending[ascending * np.arange(len(p), 0, -1) > 1 - CONFIDENCE]
    return p < (not_rejected[0] if len(not_rejected) else np.inf)


def certainly_better(rows: ArrayLike) -> np.ndarray:
    """Test all pairs of rows [K, n] of paired seeds, two-sided, by Holm's rule.

    Args:
        rows: One row of n values for each of the K things to be compared, column by column the same seed.

    Returns:
        A mask [K, K], true at (i, j) where the mean of i is larger than that of j. With fewer than `MIN_SEEDS` seeds
        nothing is.

    Example:
        >>> certainly_better([[0.9, 0.8, 0.9, 0.8], [0.1, 0.2, 0.2, 0.1]]).tolist()
        [[False, True], [False, False]]
    """
    values = np.asarray(rows, float)
    num_rows, num_seeds = values.shape
    better = np.zeros((num_rows, num_rows), bool)
    if num_seeds < MIN_SEEDS or num_rows < 2:
        return better
    first, second = np.triu_indices(num_rows, 1)
    mean, error = paired_t(values[first] - values[second])
    rejected = holm(2 * special.stdtr(num_seeds - 1, -np.abs(mean) / error))
    better[first, second] = rejected & (mean > 0)
    better[second, first] = rejected & (mean < 0)
    return better
