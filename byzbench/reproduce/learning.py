"""What studies measure of learning curves: means over windows, first passage of a return, and staying above another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from byzbench.reports.figures import reached
from byzbench.reports.plots import trace

TENTHS = 10
"""The parts of a budget, in each of which a run that stays must be above a return."""


class Passage(TypedDict):
    """When a run reaches a return, and whether it stays.

    Attributes:
        reached: Trajectories per agent at the first passage; None if the return is never reached.
        stayed: Whether the mean of every later tenth of the budget is above the lower return.
        tenths: The mean of each tenth of the budget; None where it is not finite.
    """

    reached: float | None
    stayed: bool
    tenths: list[float | None]


def window_means(at: np.ndarray, values: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return means of a curve over windows of trajectories.

    Args:
        at: [n+1] Trajectories before the first round and after each round.
        values: [n] The value of each round.
        ends: [m, 2] The first and the last trajectory of each window.

    Returns:
        [m] The means.

    Example:
        >>> window_means(np.array([0.0, 10, 20]), np.array([1.0, 3.0]), np.array([[0, 20], [5, 15], [10, 20]]))
        array([2., 2., 3.])
    """
    total = np.concatenate([[0.0], np.cumsum(values * np.diff(at))])
    first, last = np.asarray(ends, float).clip(0, at[-1]).T
    return (np.interp(last, at, total) - np.interp(first, at, total)) / np.maximum(last - first, 1e-9)


def centred_curve(folder: Path, grid: Sequence[float], width: float) -> list[float | None]:
    """Return the training return of a run at points, each the mean over the trajectories around it.

    A window of earlier trajectories alone would be late where returns rise.

    Args:
        folder: The folder of the run.
        grid: The points, in trajectories per agent.
        width: The width of the window in trajectories.

    Returns:
        The means, to one decimal; None where they are not finite.
    """
    centres = np.asarray(grid, float)
    means = window_means(*trace(folder, "return"), np.stack([centres - width / 2, centres + width / 2], 1))
    return [_number(mean, 1) for mean in means]


def passage(folder: Path, goal: float, floor: float) -> Passage:
    """Return when the training return of a run reaches a goal, and whether it stays above a lower return.

    The first passage is that of `byzbench.reports.figures.reached`: the return is averaged over the last tenth of the
    trajectories so far. Later tenths of the budget are those that begin after it.

    Args:
        folder: The folder of the run.
        goal: The return to reach.
        floor: The return above which the mean of every later tenth must be.
    """
    when, is_reached = reached(folder, goal)
    at, values = trace(folder, "return")
    edges = np.linspace(0, at[-1], TENTHS + 1)
    means = window_means(at, values, np.stack([edges[:-1], edges[1:]], 1))
    later = means[edges[:-1] >= when]
    return {
        "reached": float(when) if is_reached else None,
        "stayed": bool(is_reached and (later > floor).all()),
        "tenths": [_number(mean, 1) for mean in means],
    }


def _number(value: float, digits: int) -> float | None:
    return round(float(value), digits) if math.isfinite(value) else None
