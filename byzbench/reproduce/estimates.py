"""Estimates over seeds that studies share: geometric means, their ratios, and how they are written."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from byzbench.reports.estimators import Interval
from byzbench.reports.statistics import mean_interval


def geometric_mean(times: np.ndarray) -> Interval | None:
    """Return the geometric mean of positive numbers [n] with Student's interval of logarithms; None without any.

    Example:
        >>> print(geometric_mean(np.array([100.0, 400.0])))
        200.00
    """
    if not len(times):
        return None
    logs = mean_interval(np.log(times))
    ends = [None if end is None else math.exp(end) for end in (logs.low, logs.high)]
    return Interval(math.exp(logs.value), *ends)


def speed_ratio(alone: np.ndarray, many: np.ndarray) -> Interval | None:
    """Return the ratio of two geometric means with Welch's 95 % interval of logarithms.

    Args:
        alone: First passages of one agent.
        many: First passages of many agents.

    Returns:
        The ratio, without an interval where a side has fewer than three runs; None where a side has none.

    Example:
        >>> print(speed_ratio(np.array([400.0, 400.0]), np.array([100.0])))
        4.00
    """
    if not len(alone) or not len(many):
        return None
    first, second = np.log(alone), np.log(many)
    difference = float(first.mean() - second.mean())
    if min(len(alone), len(many)) < 3 or not (np.ptp(first) + np.ptp(second)):
        return Interval(math.exp(difference))
    low, high = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    return Interval(math.exp(difference), math.exp(low), math.exp(high))


def format_interval(interval: Interval | None, digits: int) -> str:
    """Return a value with its interval as text.

    Example:
        >>> format_interval(Interval(2.0, 1.0, 3.0), 1), format_interval(None, 1)
        ('2.0 (1.0 to 3.0)', '-')
    """
    if interval is None:
        return "-"
    ends = "" if interval.low is None else f" ({interval.low:,.{digits}f} to {interval.high:,.{digits}f})"
    return f"{interval.value:,.{digits}f}{ends}"
