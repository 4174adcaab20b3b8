"""Published numbers beside ours: digitised curves, and whether they lie within our intervals."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

from byzbench.reports.estimators import Interval


@cache
def digitised_curves() -> Mapping[str, Any]:
    """Return the curves of the figures of Jordan et al. (2024), as read off the released images.

    Returns:
        `x`, trajectories per agent; `note`, the error of reading; and by figure, panel and curve the mean training
        return of ten seeds at each x, None outside the axes.

    Example:
        >>> curves = digitised_curves()
        >>> dict(zip(curves["x"], curves["speedup"]["CartPole"]["DecByzPG K=5"]))[4000]
        401
    """
    return json.loads((resources.files("byzbench.reproduce") / "decbyzpg_curves.json").read_text(encoding="utf-8"))


def is_within(published: float, ours: Interval, error: float) -> bool | None:
    """Return whether a published number is within an interval that is widened by the error of reading it.

    Args:
        published: The published number.
        ours: Our mean with its interval.
        error: The error of the published number.

    Returns:
        None where ours has no interval.

    Example:
        >>> is_within(365, Interval(340.0, 310.0, 358.0), error=10), is_within(365, Interval(340.0, 330.0, 350.0), 10)
        (True, False)
    """
    if ours.low is None or ours.high is None:
        return None
    return ours.low - error <= published <= ours.high + error


def share_within(verdicts: Sequence[bool | None]) -> str:
    """Return how many of the verdicts that are not None are True, as in "5 of 8".

    Example:
        >>> share_within([True, False, None])
        '1 of 2'
    """
    known = [verdict for verdict in verdicts if verdict is not None]
    return f"{sum(known)} of {len(known)}" if known else ""
