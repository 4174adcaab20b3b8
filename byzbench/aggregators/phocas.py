"""Phocas: the mean around the trimmed mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from byzbench.aggregators._ordered import Array, Rank, kappa_around, mean_around, mean_between, rank
from byzbench.aggregators.median import by_rank
from byzbench.aggregators.trimmed_mean import TrimmedMean
from byzbench.core import Aggregator, RuleContext, RuleOutput


@dataclass(frozen=True)
class Phocas(Aggregator):
    """The mean, in each coordinate, of the n - f values nearest to the trimmed mean.

    Formula: t_k = (1/(n - 2f)) sum of the order statistics f+1 .. n-f of x_1k .. x_nk; value_k = (1/(n - f)) sum of the
    n - f values x_ik of least |x_ik - t_k|, of ties the smaller.

    Source: Xie, Koyejo, Gupta 2018, "Phocas: dimensional Byzantine-resilient stochastic gradient descent", arXiv
    1805.09682.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0], [2.0], [6.0], [100.0]])
        >>> Phocas()(x, 1)[0]
        tensor([3.])
    """

    source: ClassVar[str] = "Xie et al. 2018, arXiv 1805.09682"
    cost: ClassVar[str] = "n log n d"
    requires: ClassVar[str] = "n >= 2f + 1"

    def defined(self, n: int, f: int) -> bool:
        """Return whether the trimmed mean is defined."""
        return n >= 2 * f + 1

    def kappa(self, n: int, f: int) -> float | None:
        """Return `kappa_around` of the trimmed mean's kappa.

        For small f/n it is proportional to f/n, as that of the mean around the median is.
        """
        trimmed_mean_kappa = TrimmedMean().kappa(n, f)
        return None if trimmed_mean_kappa is None else kappa_around(n, f, trimmed_mean_kappa)

    def aggregate(self, x: Tensor, f: Tensor, context: RuleContext) -> RuleOutput:
        """Average the values nearest to the trimmed mean; see `Aggregator.aggregate`."""
        cut = rank(f)

        def around(ordered: Array, count: Rank) -> Array:
            return mean_around(ordered, mean_between(ordered, cut, count - cut), count - cut)

        return RuleOutput(by_rank(around, x, context.mask), None, {})
