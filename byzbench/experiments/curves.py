"""Summaries of learning curves. This module imports no heavy library."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEARNING = 0.1
"""The threshold of learning: a return above random, as a share of the difference from random to solved."""


def area_under_curve(
    trajectories: Sequence[float], returns: Sequence[float | None], start: float, budget: float
) -> float:
    """Return the area under a learning curve divided by the budget: a mean return.

    The curve is piecewise linear, from `start` at 0 trajectories to the last point. It is cut at the budget, or
    extended to it with the last value. A return that is None counts as `start`.

    Args:
        trajectories: The numbers of trajectories at which returns were measured, increasing.
        returns: The measured returns.
        start: The return before training, for example that of a random policy.
        budget: The number of trajectories of the whole run.

    Returns:
        The area divided by the budget.

    Example:
        >>> area_under_curve([50, 150], [10.0, 10.0], 0.0, 100)
        7.5
    """
    x = np.array([0.0, *trajectories])
    y = np.array([start, *(start if value is None else value for value in returns)])
    inside = x < budget
    x, y = np.append(x[inside], budget), np.append(y[inside], np.interp(budget, x, y))
    return float(np.trapezoid(y, x) / budget)
