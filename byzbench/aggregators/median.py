"""The coordinate-wise median."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from byzbench.aggregators._ordered import Array, Rank, mean_between
from byzbench.core import Aggregator, RuleContext, RuleOutput
from byzbench.geometry.pairwise_distances import to_array, to_tensor

COLUMNS = 4000
"""Number of coordinates that are sorted at one time: not a power of two, see `pairwise_distances.BLOCK`."""


def by_rank(rule: Callable[[Array, Rank], Array], x: Tensor, mask: Tensor | None) -> Tensor:
    """Apply a coordinate-wise rule to x [..., n, d], a block of coordinates at a time: [..., d] in the dtype of x.

    The intermediate results of a block fit into the cache.

    Args:
        rule: maps the results of `ascending` to [..., b], for any number b of coordinates.
        x: [..., n, d], the vectors.
        mask: [..., n] bool; None if all are valid.
    """
    values, valid = to_array(x), None if mask is None else to_array(mask)
    if x.shape[-1] <= COLUMNS:
        return to_tensor(rule(*ascending(values, valid)).astype(values.dtype), x)
    value = np.empty((*x.shape[:-2], x.shape[-1]), values.dtype)
    for start in range(0, x.shape[-1], COLUMNS):
        part = slice(start, start + COLUMNS)
        value[..., part] = rule(*ascending(values[..., part], valid))
    return to_tensor(value, x)


def ascending(x: Array, mask: Array | None) -> tuple[Array, Rank]:
    """Sort each coordinate over the vectors; invalid ones come last, as +inf.

    Args:
        x: [..., n, d], the vectors.
        mask: [..., n] bool; None if all are valid.

    Returns:
        The sorted values [..., n, d], and how many vectors are valid.
    """
    count: Rank = x.shape[-2]
    if mask is not None and not mask.all():
        count = np.add.reduce(mask, -1)[..., None, None]
        x = np.where(mask[..., None], x, x.dtype.type(np.inf))
    # NumPy sorts with SIMD instructions, up to ten times as fast as torch.
    return np.sort(x, axis=-2), count


def middle(ordered: Array, count: Rank) -> Array:
    """Return the median of each coordinate of the result of `ascending`: float64 [..., d]."""
    return mean_between(ordered, (count - 1) // 2, count // 2 + 1)


def median_of(x: Array, mask: Array | None) -> Array:
    """Return the median of each coordinate of x [..., n, d] over the valid vectors: float64 [..., d].

    Example:
        >>> median_of(np.array([[1.0, 5.0], [2.0, 4.0], [3.0, 100.0]]), None)
        array([2., 5.])
    """
    return middle(*ascending(x, mask))


@dataclass(frozen=True)
class Median(Aggregator):
    """The median of each coordinate; of an even count, the mean of the middle two.

    Formula: value_k = median of x_1k .. x_nk, for each of the d coordinates by itself. While n >= 2f + 1 it is between
    honest values in each coordinate; as a vector it may be outside their convex hull.

    Source: Yin et al. 2018, arXiv 1803.01498, definition 1.

    Libraries differ at an even count: `torch.median`, and the rules that call it (those of ByzantineMomentum and
    SignGuard), return the lower of the middle two; NumPy, byzfl and this rule return their mean.

    Example:
        >>> import torch
        >>> Median()(torch.tensor([[1.0], [2.0], [100.0]]), 1)[0]
        tensor([2.])
    """

    source: ClassVar[str] = "Yin et al. 2018, arXiv 1803.01498, definition 1"
    cost: ClassVar[str] = "n log n d"
    requires: ClassVar[str] = "n >= 2f + 1"

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether a majority is honest."""
        return n >= 2 * f + 1

    def kappa(self, n: int, f: int) -> float | None:
        """Return 4 (1 + f/(n-2f))^2: Allouah et al. 2023, arXiv 2302.01772."""
        return 4 * (1 + f / (n - 2 * f)) ** 2 if self.guarantee(n, f) else None

    def aggregate(self, x: Tensor, f: Tensor, context: RuleContext) -> RuleOutput:
        """Return the median of each coordinate; see `Aggregator.aggregate`. It does not read f."""
        return RuleOutput(by_rank(middle, x, context.mask), None, {})
