"""Learning curves as numbers. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def area_under_curve(
    trajectories: Sequence[float], returns: Sequence[float | None], start: float, budget: float
) -> float:
    """Return the area under a learning curve divided by the budget: a mean return.

    Trapezoids from `start` at 0 trajectories to the last point, cut at the budget by linear interpolation; after a last
    point that lies before the budget the curve stays where it is. A return that is None counts as `start`.

    Args:
        trajectories: where the curve was measured, rising.
        returns: what was measured there.
        start: the return before anything was learned, as of a random policy.
        budget: trajectories of the whole run.

    Example:
        >>> area_under_curve([50, 150], [10.0, 10.0], 0.0, 100)
        7.5
    """
    at = np.array([0.0, *trajectories])
    values = np.array([start, *(start if value is None else value for value in returns)])
    inside = at < budget
    at, ends = np.append(at[inside], budget), np.append(values[inside], np.interp(budget, at, values))
    return float(np.trapezoid(ends, at) / budget)
