"""The coordinate-wise median."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from byzbench.contracts import Aggregator, State


def ascending(x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Each coordinate of x [..., n, d] sorted, invalid vectors last as +inf; and how many are valid, [..., 1, 1]."""
    if mask is None:
        mask = x.new_ones(x.shape[:-1], dtype=torch.bool)
    valid = mask.unsqueeze(-1)
    return x.masked_fill(~valid, torch.inf).sort(-2).values, valid.sum(-2, keepdim=True)


def middle(ordered: Tensor, count: Tensor) -> Tensor:
    """The median of each coordinate of what `ascending` returned: float64 [..., d]."""
    pair = torch.cat([(count - 1) // 2, count // 2], -2)
    return ordered.take_along_dim(pair, -2).double().mean(-2)


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
        return median_of(x, mask).to(x.dtype), None, {}
