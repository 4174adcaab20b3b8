"""The coordinate-wise median."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from byzbench.aggregators._ordered import between
from byzbench.contracts import Aggregator, State
from byzbench.geometry.cloud import array, tensor

COLUMNS = 4000
"""Coordinates sorted at one time: not a power of two, see `byzbench.geometry.cloud.BLOCK`."""


def blockwise(rule: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A rule for each coordinate by itself, [..., n, b] to [..., b], on x [..., n, d] a block of coordinates at a time.

    What a rule writes down on its way then stays in the cache.
    """
    return rule(x) if x.shape[-1] <= COLUMNS else torch.cat([rule(part) for part in x.split(COLUMNS, -1)], -1)


def ascending(x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Each coordinate of x [..., n, d] sorted, invalid vectors last as +inf; and how many are valid, [..., 1, 1]."""
    values = array(x)
    if mask is None:
        count = np.full((1, 1), x.shape[-2])
    else:
        valid = array(mask)[..., None]
        count = valid.sum(-2, keepdims=True)
        if not valid.all():
            values = np.where(valid, values, np.inf)
    # NumPy sorts with vector instructions, up to ten times as fast as torch.
    return tensor(np.sort(values, axis=-2), x), tensor(count, x)


def middle(ordered: Tensor, count: Tensor) -> Tensor:
    """The median of each coordinate of what `ascending` returned: float64 [..., d]."""
    n = array(count)
    return tensor(between(array(ordered), (n - 1) // 2, n // 2 + 1), ordered)


def median_of(x: Tensor, mask: Tensor | None) -> Tensor:
    """The median of each coordinate of x [..., n, d] over the valid vectors: float64 [..., d]."""
    return middle(*ascending(x, mask))


@dataclass(frozen=True)
class Median(Aggregator):
    """The median of each coordinate; of an even count, the mean of the middle two.

    Formula: value_k = median of x_1k .. x_nk, for each of the d coordinates by itself. While n >= 2f + 1 it lies
    between honest values in each coordinate; as a vector it may lie outside their convex hull.

    Source: Yin et al. 2018, arXiv 1803.01498, definition 1.
    """

    source: ClassVar[str] = "Yin et al. 2018, arXiv 1803.01498, definition 1"
    cost: ClassVar[str] = "n log n d"
    requires: ClassVar[str] = "n >= 2f + 1"

    def guarantee(self, n: int, f: int) -> bool:
        """An honest majority."""
        return n >= 2 * f + 1

    def kappa(self, n: int, f: int) -> float | None:
        """4 (1 + f/(n-2f))^2: Allouah et al. 2023, arXiv 2302.01772."""
        return 4 * (1 + f / (n - 2 * f)) ** 2 if self.guarantee(n, f) else None

    def __call__(
        self, x: Tensor, f: Tensor | int = 0, *, mask: Tensor | None = None, **unused: Any
    ) -> tuple[Tensor, Tensor | None, State]:
        """See `Aggregator.__call__`. Does not read f."""
        return blockwise(lambda part: median_of(part, mask), x).to(x.dtype), None, {}
