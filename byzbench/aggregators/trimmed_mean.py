"""The coordinate-wise trimmed mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from byzbench.aggregators._ordered import mean_between, rank
from byzbench.aggregators.median import by_rank
from byzbench.core import Aggregator, RuleContext, RuleOutput


@dataclass(frozen=True)
class TrimmedMean(Aggregator):
    """The mean, in each coordinate, of the values without the f largest and the f smallest.

    Formula: value_k = (1/(n - 2f)) sum of the order statistics f+1 .. n-f of x_1k .. x_nk.

    Source: Yin et al. 2018, arXiv 1803.01498, definition 2.

    Differs from the source in: f values are cut from each side, not a fraction of n, which rounding can make one less.

    Example:
        >>> import torch
        >>> TrimmedMean()(torch.tensor([[1.0], [2.0], [3.0], [100.0]]), 1)[0]
        tensor([2.5000])
    """

    source: ClassVar[str] = "Yin et al. 2018, arXiv 1803.01498, definition 2"
    cost: ClassVar[str] = "n log n d"
    requires: ClassVar[str] = "n >= 2f + 1"

    def defined(self, n: int, f: int) -> bool:
        """Return whether at least one value remains."""
        return n >= 2 * f + 1

    def kappa(self, n: int, f: int) -> float | None:
        """Return 6f/(n-2f) (1 + f/(n-2f)): Allouah et al. 2023, arXiv 2302.01772."""
        return 6 * f / (n - 2 * f) * (1 + f / (n - 2 * f)) if self.defined(n, f) else None

    def aggregate(self, x: Tensor, f: Tensor, context: RuleContext) -> RuleOutput:
        """Return the trimmed mean of each coordinate; see `Aggregator.aggregate`."""
        cut = rank(f)
        value = by_rank(lambda ordered, count: mean_between(ordered, cut, count - cut), x, context.mask)
        return RuleOutput(value, None, {})
