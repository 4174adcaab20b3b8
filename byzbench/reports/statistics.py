"""Means over seeds with intervals, differences of paired seeds, and performance profiles.

n counts seeds. No function changes its input. Input that is not finite, or of a shape that does not fit, is a
ValueError.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from byzbench.reports.estimators import Interval, bounded_interval
from byzbench.reports.paired_tests import CONFIDENCE, MIN_SEEDS, paired_t

FEW_SEEDS = 10
"""Number of seeds below which a row is flagged."""

_Z = float(special.ndtri((1 + CONFIDENCE) / 2))


def mean_interval(values: ArrayLike, bounds: tuple[float, float] | None = None) -> Interval:
    """Return the mean of values [n], one per seed, and its two-sided 95 % interval.

    With bounds, the interval is `bounded_interval` of the scores (value - low) / (high - low): it allows for one
    further seed with the lower bound, and for one with the upper. Without, it is Student's, which does not allow for a
    failure that no seed has shown. A value outside the bounds moves the bound.

    Args:
        values: One for each seed.
        bounds: The returns of the random policy and of a solved task, which have the scores 0 and 1.

    Returns:
        The mean; no interval below `MIN_SEEDS` seeds.

    Raises:
        ValueError: Values are not one row of finite numbers, or bounds are not finite and rising.

    Example:
        >>> mean = mean_interval([475.0] * 10, bounds=(22.3, 475.0))
        >>> print(f"{mean.value:.0f} ({mean.low:.0f} to {mean.high:.0f})")
        475 (335 to 475)
        >>> mean = mean_interval([1.0, 2.0, 3.0])
        >>> print(f"{mean.value:.2f} ({mean.low:.2f} to {mean.high:.2f})")
        2.00 (-0.48 to 4.48)
    """
    x = _row(values)
    value = float(x[0] + (x - x[0]).mean())  # the mean of equal values is exact
    if bounds is not None and not (np.isfinite(bounds).all() and bounds[0] < bounds[1]):
        raise ValueError(f"bounds must be finite and rising, got {bounds}")
    if len(x) < MIN_SEEDS:
        return Interval(value)
    if bounds is None:
        half = _quantile(len(x)) * float((x - x[0]).std(ddof=1)) / len(x) ** 0.5
        return Interval(value, value - half, value + half)
    lowest = min(bounds[0], float(x.min()))
    scale = bounds[1] - lowest
    scaled = bounded_interval([((x - lowest) / scale)[None]])
    assert scaled.low is not None
    assert scaled.high is not None
    return Interval(value, min(lowest + scale * scaled.low, value), max(lowest + scale * scaled.high, value))


def difference_interval(differences: ArrayLike, scale: float) -> Interval:
    """Return the mean of paired differences [n] and Student's two-sided 95 % interval, with a variance floor.

    Args:
        differences: One for each seed.
        scale: The difference that is one in scores; the standard deviation is at least `SD_FLOOR` of it.

    Returns:
        The mean; no interval below `MIN_SEEDS` seeds.

    Raises:
        ValueError: Differences are not one row of finite numbers.

    Example:
        >>> mean = difference_interval([10.0] * 4, scale=100.0)
        >>> print(f"{mean.value:.2f} ({mean.low:.2f} to {mean.high:.2f})")
        10.00 (2.04 to 17.96)
    """
    x = _row(differences)
    value = float(x[0] + (x - x[0]).mean())
    if len(x) < MIN_SEEDS:
        return Interval(value)
    half = scale * _quantile(len(x)) * float(paired_t(x / scale)[1])
    return Interval(value, value - half, value + half)


def profile(scores: ArrayLike, taus: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the share of scores [runs] above each of taus [t], with Wilson's pointwise 95 % interval.

    Source: the performance profile of Agarwal et al. (2021), whose band is a bootstrap.

    Args:
        scores: One for each run.
        taus: Thresholds.

    Returns:
        Shares, lower ends and upper ends, each [t].

    Raises:
        ValueError: Scores or thresholds are not one row of finite numbers.

    Example:
        >>> share, low, high = profile([0.0, 0.2, 0.5, 0.5, 1.0], [0.2])
        >>> print(f"{share[0]:.2f} ({low[0]:.2f} to {high[0]:.2f})")
        0.60 (0.23 to 0.88)
    """
    x, at = _row(scores), _row(taus)
    share, spread = (x > at[:, None]).mean(-1), _Z**2 / len(x)
    middle, half = share + spread / 2, np.sqrt(spread * share * (1 - share) + spread**2 / 4)
    # Clipped to the share, which rounding could leave outside where all runs are on one side.
    return share, ((middle - half) / (1 + spread)).clip(0, share), ((middle + half) / (1 + spread)).clip(share, 1)


def correlation(first: ArrayLike, second: ArrayLike) -> float | None:
    """Return Pearson's correlation of paired values; None below three pairs, or where one side does not vary.

    Example:
        >>> correlation([1, 2, 3], [2, 4, 6])
        1.0
        >>> correlation([1, 1, 1], [2, 4, 6])
    """
    pairs = np.array([first, second], float)
    if pairs.shape[1] < 3 or not np.ptp(pairs, axis=1).all():
        return None
    return float(np.corrcoef(pairs)[0, 1])


def _quantile(num_seeds: int) -> float:
    """Return the quantile of Student's distribution for a two-sided interval of the mean."""
    return float(special.stdtrit(num_seeds - 1, (1 + CONFIDENCE) / 2))


def _row(values: ArrayLike) -> np.ndarray:
    x = np.asarray(values, float)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all():
        raise ValueError(f"values must be one row of finite numbers, at least one; got shape {list(x.shape)}")
    return x
