"""Means of some of the sorted values of each coordinate: of a range of ranks, or of the values nearest to a pivot."""

from __future__ import annotations

from math import sqrt
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

from byzbench.geometry.pairwise_distances import to_array

Array: TypeAlias = npt.NDArray[Any]
Rank: TypeAlias = Array | int
"""A rank from 0, or a number of values: an array [..., 1, 1], or an integer if it is the same for all sets."""


def rank(values: Tensor | int) -> Rank:
    """Convert the number of each set [...] to a `Rank`: an integer if all numbers are equal."""
    if isinstance(values, int):
        return values
    numbers = to_array(values)
    flat_numbers = numbers.reshape(-1).tolist()
    return (
        flat_numbers[0]
        if flat_numbers and flat_numbers.count(flat_numbers[0]) == len(flat_numbers)
        else numbers[..., None, None]
    )


def value_at(ordered: Array, place: Rank) -> Array:
    """Return the value of a rank in each coordinate: float64 [..., d].

    Args:
        ordered: [..., n, d], as `ascending` returns it.
        place: the rank, from 0.
    """
    if not isinstance(place, int):
        place = np.broadcast_to(place, (*ordered.shape[:-2], 1, 1))
        return np.take_along_axis(ordered, place, -2).squeeze(-2).astype(np.float64)
    return ordered[..., place, :].astype(np.float64)


def mean_between(ordered: Array, start: Rank, stop: Rank) -> Array:
    """Return the mean of the values of rank start .. stop - 1 in each coordinate: float64 [..., d].

    Args:
        ordered: [..., n, d], as `ascending` returns it.
        start: the first rank; it may differ between coordinates, [..., 1, d].
        stop: the rank after the last one, of the same shape; greater than `start`.

    Example:
        >>> mean_between(np.array([[1.0], [2.0], [4.0], [90.0]]), 1, 3)
        array([3.])
    """
    # Add up the selected values; do not subtract the others from the total: 1e30 - 1e30 would lose all honest digits.
    if isinstance(start, int) and isinstance(stop, int):
        return np.asarray(np.add.reduce(ordered[..., start:stop, :], -2, dtype=np.float64) / (stop - start))
    lowest_start, highest_stop = (
        np.minimum.reduce(start, None, initial=ordered.shape[-2]),
        np.maximum.reduce(stop, None, initial=0),
    )
    ranks = np.arange(lowest_start, highest_stop)[:, None]
    is_selected = (ranks >= start) & (ranks < stop)
    total = np.add.reduce(ordered[..., lowest_start:highest_stop, :], -2, dtype=np.float64, where=is_selected)
    return np.asarray(total / np.asarray(stop - start).squeeze(-2))


def mean_around(ordered: Array, pivot: Array, count: Rank) -> Array:
    """Return the mean of the `count` values nearest to the pivot in each coordinate; of ties, the smaller value.

    Args:
        ordered: [..., n, d], as `ascending` returns it.
        pivot: float64 [..., d].
        count: how many values are averaged, from 1 to the number of valid values.

    Returns:
        The means, float64 [..., d].

    Example:
        >>> mean_around(np.array([[1.0], [2.0], [4.0], [90.0]]), np.array([3.0]), 2)
        array([3.])
    """
    centre, n = pivot[..., None, :], ordered.shape[-2]
    least_count = count if isinstance(count, int) else np.min(count, initial=n)
    # The nearest values have consecutive ranks. Moving this window by one rank improves it while the value that leaves
    # is farther from the pivot than the value that enters.
    start = np.arange(n - least_count)[:, None]
    leaving_distance = np.abs(ordered[..., : n - least_count, :] - centre)
    if isinstance(count, int):
        moves_on = leaving_distance > np.abs(ordered[..., least_count:, :] - centre)
    else:
        entering_rank = np.broadcast_to(start + count, (*ordered.shape[:-2], n - least_count, 1))
        moves_on = (
            leaving_distance > np.abs(np.take_along_axis(ordered, np.minimum(entering_rank, n - 1), -2) - centre)
        ) & (entering_rank < n)
    first_rank = np.maximum.reduce(moves_on * (start + 1), -2, keepdims=True, initial=0)
    return mean_between(ordered, first_rank, first_rank + count)


def kappa_around(n: int, f: int, kappa: float) -> float:
    """Return the kappa of a mean of the n - f inputs nearest to an (f, kappa)-robust pivot: 4r (1 + sqrt(r kappa))^2.

    Here r = f/(n-f). Let m and v be the mean and variance of S, t the pivot, and Z the n - f inputs nearest to it. Z
    without S and S without Z have the same size b <= f. No z of the former is farther from t than any x of the latter,
    so that |z - m| <= |x - m| + 2 |t - m|. Deviations from m sum to zero over S. Hence (n-f) |value - m| is at most 2
    sum |x - m| + 2b |t - m| over those x. The first sum is at most sqrt(b (n-f) v), and |t - m| is at most sqrt(kappa
    v).
    """
    ratio = f / (n - f)
    return 4 * ratio * (1 + sqrt(ratio * kappa)) ** 2
