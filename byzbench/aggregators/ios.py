"""IOS, the iterative outlier scissor: drop the neighbour farthest from the mean, again and again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from byzbench.aggregators._neighbourhood import Neighbourhood
from byzbench.contracts import LinearRule, State
from byzbench.geometry.cloud import Cloud


@dataclass(frozen=True)
class Ios(LinearRule):
    """The weighted mean of the own vector and its neighbours without f of these, the outliers.

    Formula: U = all; f times: m = sum_U W_ij x_j / sum_U W_ij, and U loses the neighbour of largest ||x_j - m||, of
    equals the last; never the receiver i itself. value = sum_U W_ij x_j / sum_U W_ij, with the mixing weights W [n],
    which in the source are Metropolis'.

    Source: Wu, Chen, Ling 2023, "Byzantine-resilient decentralized stochastic optimization with robust aggregation
    rules", IEEE Transactions on Signal Processing (arXiv 2206.04568), iterative outlier scissor.
    """

    source: ClassVar[str] = "Wu et al. 2023, arXiv 2206.04568"
    cost: ClassVar[str] = "n^2 d"
    self_centred: ClassVar[bool] = True
    requires: ClassVar[str] = "n >= 3f + 1, and well connected honest agents"

    def defined(self, n: int, f: int) -> bool:
        """There are so many neighbours to drop."""
        return n >= f + 1

    def guarantee(self, n: int, f: int) -> bool:
        """The f largest weights sum to less than 1/3, here for equal ones: from memory, where the source's bound ends.

        The bound must also be small beside the spectral gap of the honest graph.
        """
        return n >= 3 * f + 1

    def weigh(
        self, cloud: Cloud, f: Tensor, *, own: Tensor | None = None, weights: Tensor | None = None, **unused: Any
    ) -> tuple[Tensor, State]:
        """The mixing weights of those that are left, over their sum."""
        around = Neighbourhood.of(cloud.mask, own, weights)
        left = cloud.mask
        for turn in range(int(f.max())):
            gaps = cloud.distances_to(_over_sum(around.row.where(left, 0)))
            gaps = gaps.masked_fill(~(left & around.others), -1)
            # The last of the largest: `argmax` of the columns in reverse finds the first.
            farthest = gaps.shape[-1] - 1 - gaps.flip(-1).argmax(-1, keepdim=True)
            hit = torch.zeros_like(left).scatter(-1, farthest, True)
            left = left & ~(hit & around.others & (turn < f).unsqueeze(-1))
        return _over_sum(around.row.where(left, 0)), {}


def _over_sum(weights: Tensor) -> Tensor:
    return weights / weights.sum(-1, keepdim=True)
