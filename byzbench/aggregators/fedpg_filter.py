"""FedPG-BR's filter: the mean of the gradients near a gradient that is near most others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from byzbench.core import FloatRange, LinearRule, RuleContext, RuleTraits, State
from byzbench.geometry.pairwise_distances import PairwiseDistances, uniform_weights


@dataclass(frozen=True)
class FedpgFilter(LinearRule):
    """The mean of all gradients within a threshold of a central gradient, which is itself within it of most gradients.

    Formula: for a threshold T, S = {i: #{j: ||x_i - x_j|| <= T} > n/2}, where i itself counts; mom = the element of S
    nearest to mean(S), ties by index; G = {i: ||x_i - mom|| <= T}. First T = 2 sigma sqrt(V/B) with V = 2
    log(2n/delta); if |G| < n - f, it is repeated with T = 2 sigma. value = mean(G).

    Suppose that honest gradients of B trajectories each deviate from their expectation by at most sigma. Then two of
    them are within the first T of each other with probability 1 - delta, and within the second always.

    Source: Fan, Ma, Dai, Jing, Tan, Low 2021, "Fault-tolerant federated reinforcement learning with theoretical
    guarantee", NeurIPS (arXiv 2110.14074), algorithm 1.1. By default sigma and delta are the official code's for
    CartPole, whose gradients are short because it whitens returns.

    Differs from the source in: n is the number of received gradients, not the number of agents. If S is empty for T = 2
    sigma, where the source has no aggregate, T is the least threshold for which S is not empty.

    Attributes:
        sigma: the bound on an honest gradient's deviation, in the units of the inputs.
        delta: the probability with which the first threshold may fail.
        batch: B, the number of trajectories of a gradient.

    Example:
        >>> x = torch.tensor([[1.0], [1.1], [1.2], [9.0]])
        >>> FedpgFilter()(x, 1)[0]
        tensor([1.1000])
    """

    sigma: Annotated[float, Field(gt=0, description="bound on honest deviations"), FloatRange(0.01, 10, log=True)] = (
        0.06
    )
    delta: Annotated[float, Field(gt=0, lt=1, description="probability that the first threshold fails")] = 0.6
    batch: Annotated[int, Field(ge=1, description="B, trajectories of a gradient")] = 16

    source: ClassVar[str] = "Fan et al. 2021, arXiv 2110.14074"
    cost: ClassVar[str] = "n^2 d"
    traits: ClassVar[RuleTraits] = RuleTraits(linear=True, scale_equivariant=False)
    requires: ClassVar[str] = "n >= 2f + 1, and a sigma that bounds honest deviations"

    def defined(self, n: int, f: int) -> bool:
        """Return whether at least one gradient is honest."""
        return n > f

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether a majority is honest.

        The user has to ensure that sigma bounds the honest deviations.
        """
        return (n >= 1) & (n >= 2 * f + 1)

    def compute_weights(self, pairs: PairwiseDistances, f: Tensor, context: RuleContext) -> tuple[Tensor, State]:
        """Give equal weights to the gradients in G."""
        n = pairs.mask.sum(-1, keepdim=True)
        distances = pairs.distances.masked_fill(~pairs.mask.unsqueeze(-2), torch.inf)
        # The least threshold at which each gradient is in S.
        least_threshold = distances.sort(-1).values.take_along_dim((n // 2).unsqueeze(-1), -1).squeeze(-1)
        least_threshold = least_threshold.masked_fill(~pairs.mask, torch.inf)
        first_threshold = 2 * self.sigma * ((2 * n / self.delta).double().log() * 2 / self.batch).sqrt()
        selected = _near(pairs, distances, least_threshold, first_threshold)
        is_large_enough = selected.sum(-1, keepdim=True) >= n - f.unsqueeze(-1)
        second_threshold = least_threshold.amin(-1, keepdim=True).clamp_min(2 * self.sigma)
        selected = selected.where(is_large_enough, _near(pairs, distances, least_threshold, second_threshold))
        return uniform_weights(selected), {}


def _near(pairs: PairwiseDistances, distances: Tensor, least_threshold: Tensor, threshold: Tensor) -> Tensor:
    """Return G for a threshold [..., 1]: bool [..., n], all False where S is empty."""
    central = least_threshold <= threshold
    count = central.sum(-1, keepdim=True)
    to_mean = pairs.distances_to(central.double() / count.clamp_min(1)).masked_fill(~central, torch.inf)
    # The tolerance makes the two elements of a pair tie: both are equally far from their mean, except for rounding.
    is_nearest = to_mean <= to_mean.amin(-1, keepdim=True) * (1 + 1e-9)
    medoid = is_nearest.int().argmax(-1, keepdim=True)
    to_medoid = distances.take_along_dim(medoid.unsqueeze(-1), -2).squeeze(-2)
    return (to_medoid <= threshold) & (count > 0)
