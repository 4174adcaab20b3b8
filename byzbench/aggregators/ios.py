"""IOS, the iterative outlier scissor: repeatedly drop the neighbour farthest from the mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from byzbench.aggregators._neighbourhood import Neighbourhood
from byzbench.core import LinearRule, RuleContext, RuleTraits, State
from byzbench.geometry.pairwise_distances import PairwiseDistances


@dataclass(frozen=True)
class Ios(LinearRule):
    """The weighted mean of the own vector and its neighbours after f outliers have been dropped one by one.

    Formula: U = all; f times: m = sum_U W_ij x_j / sum_U W_ij, and the neighbour of largest ||x_j - m|| is removed from
    U, of ties the last; never the receiver i itself. value = sum_U W_ij x_j / sum_U W_ij, with the mixing weights W
    [n], which are Metropolis weights in the source.

    Source: Wu, Chen, Ling 2023, "Byzantine-resilient decentralized stochastic optimization with robust aggregation
    rules", IEEE Transactions on Signal Processing (arXiv 2206.04568), iterative outlier scissor.

    Example:
        >>> x = torch.tensor([[1.0], [2.0], [3.0], [100.0]])
        >>> Ios()(x, 1, RuleContext(own=torch.tensor(0)))[0]
        tensor([2.])
    """

    source: ClassVar[str] = "Wu et al. 2023, arXiv 2206.04568"
    cost: ClassVar[str] = "n^2 d"
    traits: ClassVar[RuleTraits] = RuleTraits(linear=True, self_centered=True)
    requires: ClassVar[str] = "n >= 3f + 1, and well connected honest agents"

    def defined(self, n: int, f: int) -> bool:
        """Return whether there are at least f neighbours."""
        return n >= f + 1

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether the f largest of n equal weights sum to less than 1/3 (from memory, the source's bound).

        The bound must also be small compared with the spectral gap of the honest graph.
        """
        return n >= 3 * f + 1

    def compute_weights(self, pairs: PairwiseDistances, f: Tensor, context: RuleContext) -> tuple[Tensor, State]:
        """Return the mixing weights of the remaining vectors, divided by their sum."""
        neighbourhood = Neighbourhood.of(pairs.mask, context.own, context.weights)
        remaining = pairs.mask
        for num_dropped in range(int(f.max())):
            gaps = pairs.distances_to(_normalized(neighbourhood.row.where(remaining, 0)))
            gaps = gaps.masked_fill(~(remaining & neighbourhood.others), -1)
            # Ties are broken by the last column; `argmax` returns the first one, so the columns are reversed.
            farthest = gaps.shape[-1] - 1 - gaps.flip(-1).argmax(-1, keepdim=True)
            is_farthest = torch.zeros_like(remaining).scatter(-1, farthest, True)
            remaining = remaining & ~(is_farthest & neighbourhood.others & (num_dropped < f).unsqueeze(-1))
        return _normalized(neighbourhood.row.where(remaining, 0)), {}


def _normalized(weights: Tensor) -> Tensor:
    """Divide weights by their sum."""
    return weights / weights.sum(-1, keepdim=True)
