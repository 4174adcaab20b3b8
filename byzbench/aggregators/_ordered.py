"""Means of some of each coordinate's values, in order: of a range of ranks, or of those nearest to a pivot."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from byzbench.geometry.cloud import array, tensor


def mean_between(ordered: Tensor, start: Tensor | int, stop: Tensor) -> Tensor:
    """The mean of the values of rank start .. stop - 1, from 0: float64 [..., d].

    Args:
        ordered: [..., n, d], as `ascending` returns it.
        start: [..., 1, 1].
        stop: [..., 1, 1], more than `start`.
    """
    first = np.full((1, 1), start) if isinstance(start, int) else array(start)
    return tensor(between(array(ordered), first, array(stop)), ordered)


def between(values: npt.NDArray[Any], start: npt.NDArray[Any], stop: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """As `mean_between`, of arrays; start and stop may differ from coordinate to coordinate, [..., 1, d]."""
    low, high = start.min(initial=values.shape[-2]), stop.max(initial=0)
    rank = np.arange(low, high)[:, None]
    # The sum of what is kept, never the whole less what is cut: 1e30 - 1e30 leaves nothing of the honest digits.
    kept = np.sum(values[..., low:high, :], axis=-2, dtype=np.float64, where=(rank >= start) & (rank < stop))
    return kept / (stop - start).squeeze(-2)


def mean_around(ordered: Tensor, pivot: Tensor, count: Tensor) -> Tensor:
    """The mean of the `count` values nearest to the pivot, of equals the smaller: float64 [..., d].

    Args:
        ordered: [..., n, d], as `ascending` returns it.
        pivot: float64 [..., d].
        count: [..., 1, 1], from 1 to the number of valid values.
    """
    values, middle = array(ordered), array(pivot)[..., None, :]
    width = np.broadcast_to(array(count), (*values.shape[:-2], 1, 1))
    n = values.shape[-2]
    # The nearest stand side by side. A window of them does better one place on while what it leaves is farther than
    # what comes in.
    start = np.arange(n - width.min(initial=n))[:, None]
    comes = start + width
    leaves = np.abs(values[..., : len(start), :] - middle)
    enters = np.abs(np.take_along_axis(values, np.minimum(comes, n - 1), -2) - middle)
    on = (leaves > enters) & (comes < n)
    first = np.max(on * (start + 1), axis=-2, keepdims=True, initial=0)
    return tensor(between(values, first, first + width), ordered)


def kappa_around(n: int, f: int, kappa: float) -> float:
    """The kappa of a mean of the n - f inputs nearest to a pivot that is (f, kappa)-robust: 4r (1 + sqrt(r kappa))^2.

    Here r = f/(n-f). Let m and v be the mean and variance of S, t the pivot, and Z the n - f nearest to it. Z without S
    and S without Z have the same size b <= f, and no z of the former is farther from t than any x of the latter, so
    that |z - m| <= |x - m| + 2 |t - m|. Deviations from m sum to zero over S; hence (n-f) |value - m| is at most
    2 sum |x - m| + 2b |t - m| over those x, the first sum at most sqrt(b (n-f) v), and |t - m| at most sqrt(kappa v).
    """
    share = f / (n - f)
    return 4 * share * (1 + sqrt(share * kappa)) ** 2
