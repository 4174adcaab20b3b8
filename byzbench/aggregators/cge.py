"""Comparative gradient elimination (CGE): the mean of the shortest vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from byzbench.aggregators.krum import krum_choice
from byzbench.core import LinearRule, RuleContext, State
from byzbench.geometry.pairwise_distances import PairwiseDistances, uniform_weights


@dataclass(frozen=True)
class Cge(LinearRule):
    """The mean of all inputs except the f longest.

    Formula: value = (1/(n - f)) sum of the n - f inputs of least ||x_i||, ties by index. The rule is made for gradients
    that all vanish at the same point. On long and similar vectors it is no better than the mean: a Byzantine vector
    that is slightly shorter than the longest honest one is averaged, whatever its direction.

    Source: Gupta, Liu, Vaidya 2020, "Byzantine fault-tolerant distributed machine learning using stochastic gradient
    descent (SGD) and norm-based comparative gradient elimination (CGE)", arXiv 2008.04699.

    Differs from the source in: the mean in place of the sum (from memory). Its bound on f depends on how convex and how
    smooth the costs are, f/n (1 + 2 mu/gamma) < 1 with mu >= gamma (from memory), so that n >= 3f + 1 is its best case.

    Example:
        >>> x = torch.tensor([[1.0], [2.0], [3.0], [100.0]])
        >>> Cge()(x, 1)[0]
        tensor([2.])
    """

    source: ClassVar[str] = "Gupta et al. 2020, arXiv 2008.04699"
    cost: ClassVar[str] = "n d"
    requires: ClassVar[str] = "n >= 3f + 1, and honest costs that share their minimum"

    def defined(self, n: int, f: int) -> bool:
        """Return whether at least one input is averaged."""
        return n > f

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether the source's best case holds.

        The user has to ensure that the costs meet the source's assumptions.
        """
        return (n >= 1) & (n >= 3 * f + 1)

    def compute_weights(self, pairs: PairwiseDistances, f: Tensor, context: RuleContext) -> tuple[Tensor, State]:
        """Give equal weights to the n - f shortest inputs."""
        shortest = krum_choice(pairs.norms.masked_fill(~pairs.mask, torch.inf), pairs.mask.sum(-1) - f)
        return uniform_weights(shortest), {}
