"""Means of some of each coordinate's values, in order: of a range of ranks, or of those nearest to a pivot."""

from __future__ import annotations

from math import sqrt
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

from byzbench.geometry.cloud import array

Array: TypeAlias = npt.NDArray[Any]
Rank: TypeAlias = Array | int
"""A rank or a number of values, from 0: [..., 1, 1], or the one that all sets have."""


def rank(values: Tensor | int) -> Rank:
    """From the number of each set [...]."""
    if isinstance(values, int):
        return values
    each = array(values)
    listed = each.reshape(-1).tolist()
    return listed[0] if listed and listed.count(listed[0]) == len(listed) else each[..., None, None]


def value_at(ordered: Array, place: Rank) -> Array:
    """The value of this rank in each coordinate of what `ascending` returned: float64 [..., d]."""
    if not isinstance(place, int):
        place = np.broadcast_to(place, (*ordered.shape[:-2], 1, 1))
        return np.take_along_axis(ordered, place, -2).squeeze(-2).astype(np.float64)
    return ordered[..., place, :].astype(np.float64)


def mean_between(ordered: Array, start: Rank, stop: Rank) -> Array:
    """The mean of the values of rank start .. stop - 1: float64 [..., d].

    Args:
        ordered: [..., n, d], as `ascending` returns it.
        start: may differ from coordinate to coordinate, [..., 1, d].
        stop: alike, more than `start`.
    """
    # The sum of what is kept, never the whole less what is cut: 1e30 - 1e30 leaves nothing of the honest digits.
    if isinstance(start, int) and isinstance(stop, int):
        return np.asarray(np.add.reduce(ordered[..., start:stop, :], -2, dtype=np.float64) / (stop - start))
    low, high = np.minimum.reduce(start, None, initial=ordered.shape[-2]), np.maximum.reduce(stop, None, initial=0)
    place = np.arange(low, high)[:, None]
    kept = (place >= start) & (place < stop)
    total = np.add.reduce(ordered[..., low:high, :], -2, dtype=np.float64, where=kept)
    return np.asarray(total / np.asarray(stop - start).squeeze(-2))


def mean_around(ordered: Array, pivot: Array, count: Rank) -> Array:
    """The mean of the `count` values nearest to the pivot, of equals the smaller: float64 [..., d].

    Args:
        ordered: [..., n, d], as `ascending` returns it.
        pivot: float64 [..., d].
        count: from 1 to the number of valid values.
    """
    middle, n = pivot[..., None, :], ordered.shape[-2]
    least = count if isinstance(count, int) else np.min(count, initial=n)
    # The nearest stand side by side. A window of them does better one place on while what it leaves is farther than
    # what comes in.
    start = np.arange(n - least)[:, None]
    leaves = np.abs(ordered[..., : n - least, :] - middle)
    if isinstance(count, int):
        on = leaves > np.abs(ordered[..., least:, :] - middle)
    else:
        comes = np.broadcast_to(start + count, (*ordered.shape[:-2], n - least, 1))
        on = (leaves > np.abs(np.take_along_axis(ordered, np.minimum(comes, n - 1), -2) - middle)) & (comes < n)
    first = np.maximum.reduce(on * (start + 1), -2, keepdims=True, initial=0)
    return mean_between(ordered, first, first + count)


def kappa_around(n: int, f: int, kappa: float) -> float:
    """The kappa of a mean of the n - f inputs nearest to a pivot that is (f, kappa)-robust: 4r (1 + sqrt(r kappa))^2.

    Here r = f/(n-f). Let m and v be the mean and variance of S, t the pivot, and Z the n - f nearest to it. Z without S
    and S without Z have the same size b <= f, and no z of the former is farther from t than any x of the latter, so
    that |z - m| <= |x - m| + 2 |t - m|. Deviations from m sum to zero over S; hence (n-f) |value - m| is at most
    2 sum |x - m| + 2b |t - m| over those x, the first sum at most sqrt(b (n-f) v), and |t - m| at most sqrt(kappa v).
    """
    share = f / (n - f)
    return 4 * share * (1 + sqrt(share * kappa)) ** 2
