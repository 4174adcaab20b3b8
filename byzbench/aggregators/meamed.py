"""The mean around the median."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from byzbench.aggregators._ordered import Array, Rank, mean_around, rank
from byzbench.aggregators.median import by_rank, middle
from byzbench.core import Aggregator, RuleContext, RuleOutput


@dataclass(frozen=True)
class Meamed(Aggregator):
    """The mean, in each coordinate, of the n - f values nearest to the median.

    Formula: value_k = (1/(n - f)) sum of the n - f values x_ik of least |x_ik - median_k|, of ties the smaller.

    Source: Xie, Koyejo, Gupta 2018, arXiv 1802.10116, "mean around median".

    Libraries differ at an even count: those that call `torch.median` average around the lower of the middle two, and
    not around their mean; see `Median`.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0], [2.0], [6.0], [100.0]])
        >>> Meamed()(x, 1)[0]
        tensor([3.])
    """

    source: ClassVar[str] = "Xie et al. 2018, arXiv 1802.10116"
    cost: ClassVar[str] = "n log n d"
    requires: ClassVar[str] = "n >= 2f + 1"

    def defined(self, n: int, f: int) -> bool:
        """Return whether at least one value is averaged."""
        return n > f

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether a majority is honest."""
        return n >= 2 * f + 1

    def aggregate(self, x: Tensor, f: Tensor, context: RuleContext) -> RuleOutput:
        """Average the values nearest to the median; see `Aggregator.aggregate`."""
        num_byzantine = rank(f)

        def around(ordered: Array, count: Rank) -> Array:
            return mean_around(ordered, middle(ordered, count), count - num_byzantine)

        return RuleOutput(by_rank(around, x, context.mask), None, {})
