"""What rules have in common that answer with the middle of a box."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from math import sqrt
from typing import ClassVar, TypeAlias

import numpy as np

from byzbench.aggregators._ordered import Array, Rank, value_at
from byzbench.contracts import Aggregator

Box: TypeAlias = tuple[Array, Array]
"""The least and the greatest corner, float64 [..., d] each."""


def trusted(ordered: Array, count: Rank, cut: Rank) -> Box:
    """From the (f+1)-th smallest to the (f+1)-th largest value: whoever the f liars are, within the honest values.

    Args:
        ordered: [..., n, d], as `ascending` returns it.
        count: how many are valid.
        cut: f.
    """
    return value_at(ordered, cut), value_at(ordered, count - 1 - cut)


def midpoint(*boxes: Box) -> Array:
    """The middle of what boxes share: float64 [..., d]."""
    lows, highs = zip(*boxes, strict=True)
    return (reduce(np.maximum, lows) + reduce(np.minimum, highs)) / 2


@dataclass(frozen=True)
class Hyperbox(Aggregator):
    """The midpoint of the trusted box, or of what it shares with another; the conditions of either."""

    requires: ClassVar[str] = "n >= 3f + 1"

    def defined(self, n: int, f: int) -> bool:
        """There is a trusted box."""
        return n >= 2 * f + 1

    def guarantee(self, n: int, f: int) -> bool:
        """What agreement needs; that the value is within the honest box needs an honest majority only."""
        return self.defined(n, f) & (n >= 3 * f + 1)

    def kappa(self, n: int, f: int) -> float | None:
        """(sqrt(n-f-1) + sqrt(f/(n-2f)))^2 / 4, for a box that contains the mean of S, or none.

        In one coordinate, let S have mean m and variance v, and the trusted box be [a, b]. One of S is at b or above,
        so that b - m <= sqrt((n-f-1) v); n - 2f of S are at a or above, so that a - m <= sqrt(f/(n-2f) v). The other
        box begins at m or below. So the lesser corner of what both share is above m by the second at most, the greater
        by the first, and the midpoint by half their sum; below m likewise.
        """
        return (sqrt(n - f - 1) + sqrt(f / (n - 2 * f))) ** 2 / 4 if self.defined(n, f) else None
