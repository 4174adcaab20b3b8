"""Base class and helpers of rules that return the midpoint of a hyperbox."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from math import sqrt
from typing import ClassVar, TypeAlias

import numpy as np

from byzbench.aggregators._ordered import Array, Rank, value_at
from byzbench.core import Aggregator

Box: TypeAlias = tuple[Array, Array]
"""The lower and the upper corner of a box, float64 [..., d] each."""


def trusted(ordered: Array, count: Rank, cut: Rank) -> Box:
    """Return the trusted box: per coordinate, from the (f+1)-th smallest to the (f+1)-th largest value.

    Whichever f inputs are Byzantine, both ends are between honest values.

    Args:
        ordered: [..., n, d], as `ascending` returns it.
        count: how many of the n vectors are valid.
        cut: f, how many values are cut at either end.

    Example:
        >>> trusted(np.array([[1.0], [2.0], [3.0], [100.0]]), 4, 1)
        (array([2.]), array([3.]))
    """
    return value_at(ordered, cut), value_at(ordered, count - 1 - cut)


def midpoint(*boxes: Box) -> Array:
    """Return the midpoint of the intersection of boxes: float64 [..., d]."""
    lows, highs = zip(*boxes, strict=True)
    return (reduce(np.maximum, lows) + reduce(np.minimum, highs)) / 2


@dataclass(frozen=True)
class Hyperbox(Aggregator):
    """An aggregator that returns the midpoint of the trusted box, or of its intersection with another box.

    This base class holds the conditions that both forms share.
    """

    requires: ClassVar[str] = "n >= 3f + 1"

    def defined(self, n: int, f: int) -> bool:
        """Return whether the trusted box is not empty."""
        return n >= 2 * f + 1

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether agreement by this rule is proved (n >= 3f + 1).

        That the value is in the bounding box of the honest vectors needs only n >= 2f + 1.
        """
        return self.defined(n, f) & (n >= 3 * f + 1)

    def kappa(self, n: int, f: int) -> float | None:
        """Return (sqrt(n-f-1) + sqrt(f/(n-2f)))^2 / 4, for a second box that contains the mean of S, or for none.

        In one coordinate, let S have mean m and variance v, and let the trusted box be [a, b]. At least one value of S
        is b or more, so that b - m <= sqrt((n-f-1) v). At least n - 2f values of S are a or more, so that a - m <=
        sqrt(f/(n-2f) v). The lower end of the second box is at most m. So the lower end of the intersection exceeds m
        by at most sqrt(f/(n-2f) v), the upper end by at most sqrt((n-f-1) v), and the midpoint by at most the mean of
        the two. The same holds below m.
        """
        return (sqrt(n - f - 1) + sqrt(f / (n - 2 * f))) ** 2 / 4 if self.defined(n, f) else None
