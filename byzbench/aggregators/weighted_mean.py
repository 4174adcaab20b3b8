"""The mean by the graph's mixing weights: gossip without robustness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from byzbench.aggregators._neighbourhood import Neighbourhood
from byzbench.core import LinearRule, RuleContext, RuleTraits, State
from byzbench.geometry.pairwise_distances import PairwiseDistances


@dataclass(frozen=True)
class WeightedMean(LinearRule):
    """The average of the own vector and its neighbours by the graph's mixing weights.

    Formula: value = sum_j W_ij x_j, with the mixing weights W [n] of the receiver i; without weights, the mean. Where W
    is doubly stochastic, gossip by it preserves the mean of all agents, which the mean of each inbox does not. A single
    Byzantine vector can move it by any amount.

    Source: Xiao, Boyd 2004, "Fast linear iterations for distributed averaging", Systems and Control Letters 53.

    Differs from the source in: the own vector gets the weights of vectors that were rejected or did not arrive.

    Example:
        >>> import torch
        >>> x, weights = torch.tensor([[0.0], [4.0]]), torch.tensor([0.75, 0.25])
        >>> WeightedMean()(x, 0, RuleContext(own=torch.tensor(0), weights=weights))[0]
        tensor([1.])
    """

    source: ClassVar[str] = "Xiao, Boyd 2004, Systems and Control Letters 53"
    cost: ClassVar[str] = "n d"
    traits: ClassVar[RuleTraits] = RuleTraits(linear=True, self_centered=True)
    requires: ClassVar[str] = "f = 0"

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether f = 0."""
        return (n >= 1) & (f == 0)

    def compute_weights(self, pairs: PairwiseDistances, f: Tensor, context: RuleContext) -> tuple[Tensor, State]:
        """Return the mixing weights."""
        return Neighbourhood.of(pairs.mask, context.own, context.weights).row, {}
