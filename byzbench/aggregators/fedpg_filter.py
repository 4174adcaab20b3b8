"""FedPG-BR's filter: the mean of the gradients near a gradient that is near most others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

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

    By default sigma is estimated from the vectors themselves: r_i is the distance from x_i to its floor(n/2)-th nearest
    other vector, and sigma the lower median of r_1 ... r_n. While a majority is honest, Byzantine vectors can neither
    raise it above the honest diameter nor lower it below half the least distance of two honest vectors, unless f = (n -
    1)/2 of them repeat an honest vector. Half of the vectors or more have r_i <= sigma. Any two of these have a common
    vector within sigma, so they are within 2 sigma of each other. So S is never empty for the second T, which scales
    with the vectors. Where rewards are sparse, most honest gradients of the first rounds are zero, and so is the
    estimate: the few that hold information would be removed. Therefore sigma is at least the distance of two honest
    vectors that the receiver has measured itself, if it has. FedPG-BR's server does so in its first round.

    The source's sigma bounds the deviation of the gradient of a single episode, which is about sqrt(B) times that of a
    gradient of B episodes. A filter of that size would accept vectors that point against the gradient.

    Source: Fan, Ma, Dai, Jing, Tan, Low 2021, "Fault-tolerant federated reinforcement learning with theoretical
    guarantee", NeurIPS (arXiv 2110.14074), algorithm 1.1.

    Differs from the source in: sigma is estimated, unless it is given; n is the number of received gradients, not the
    number of agents. If S is empty for T = 2 sigma, where the source has no aggregate, T is the least threshold for
    which S is not empty (`fallback=least`). Such rounds are counted by the metric `no_majority`.

    Attributes:
        sigma: the bound on an honest gradient's deviation, in the units of the inputs; None: the estimate. The official
            code has 0.06 on CartPole, 0.07 on LunarLander and 0.9 on HalfCheetah, for gradients of whitened returns.
        delta: the probability with which the first threshold may fail.
        batch: B, the number of trajectories of a gradient; None: that of the round. Where that is not known either,
            only the second threshold is used.
        fallback: the value if no gradient is within 2 sigma of most others: that of the least threshold at which one
            is; or none, as in the source: then the value is NaN, and the algorithm decides what it does without one.

    Example:
        >>> x = torch.tensor([[1.0], [1.1], [1.2], [9.0]])
        >>> FedpgFilter()(x, 1)[0]
        tensor([1.1000])
    """

    sigma: Annotated[
        float | None,
        Field(gt=0, description="bound on honest deviations; None: the median distance to a middle neighbour"),
        FloatRange(0.01, 10, log=True),
    ] = None
    delta: Annotated[float, Field(gt=0, lt=1, description="probability that the first threshold fails")] = 0.6
    batch: Annotated[int | None, Field(ge=1, description="B, trajectories of a gradient; None: those of the round")] = (
        None
    )
    fallback: Annotated[
        Literal["least", "none"],
        Field(description="without a majority within 2 sigma: the least threshold that has one; code: no value"),
    ] = "least"

    source: ClassVar[str] = "Fan et al. 2021, arXiv 2110.14074"
    cost: ClassVar[str] = "n^2 d"
    requires: ClassVar[str] = "n >= 2f + 1, and a given sigma bounds honest deviations"

    @property
    def traits(self) -> RuleTraits:  # type: ignore[override]
        """Return that the rule is linear, and scale equivariant unless sigma is given."""
        return RuleTraits(linear=True, scale_equivariant=self.sigma is None)

    def defined(self, n: int, f: int) -> bool:
        """Return whether at least one gradient is honest."""
        return n > f

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether a majority is honest.

        The user has to ensure that a given sigma bounds the honest deviations.
        """
        return (n >= 1) & (n >= 2 * f + 1)

    def compute_weights(self, pairs: PairwiseDistances, f: Tensor, context: RuleContext) -> tuple[Tensor, State]:
        """Give equal weights to the gradients in G."""
        n = pairs.mask.sum(-1, keepdim=True)
        distances = pairs.distances.masked_fill(~pairs.mask.unsqueeze(-2), torch.inf)
        # The least threshold at which each gradient is in S.
        least_threshold = distances.sort(-1).values.take_along_dim((n // 2).unsqueeze(-1), -1).squeeze(-1)
        least_threshold = least_threshold.masked_fill(~pairs.mask, torch.inf)
        if self.sigma is None:
            sigma = least_threshold.sort(-1).values.take_along_dim((n - 1) // 2, -1)
            if context.deviation is not None:
                sigma = sigma.maximum(context.deviation.unsqueeze(-1))
        else:
            sigma = torch.full_like(least_threshold[..., :1], self.sigma)
        selected = self._first_selection(pairs, distances, least_threshold, sigma, context.batch_size)
        is_large_enough = selected.sum(-1, keepdim=True) >= n - f.unsqueeze(-1)
        majority_threshold = least_threshold.amin(-1, keepdim=True)
        no_majority = ~is_large_enough & (majority_threshold > 2 * sigma)
        second_threshold = majority_threshold.maximum(2 * sigma)
        selected = selected.where(is_large_enough, _near(pairs, distances, least_threshold, second_threshold))
        if context.log is not None:
            context.log("no_majority", no_majority.squeeze(-1))
        weights = uniform_weights(selected)
        return (weights.masked_fill(no_majority, torch.nan) if self.fallback == "none" else weights), {}

    def _first_selection(
        self,
        pairs: PairwiseDistances,
        distances: Tensor,
        least_threshold: Tensor,
        sigma: Tensor,
        batch_size: Tensor | None,
    ) -> Tensor:
        """Return G for the first threshold, bool [..., n]; all False where B is not known."""
        batch = batch_size if self.batch is None else torch.tensor(self.batch)
        if batch is None:
            return torch.zeros_like(pairs.mask)
        n = pairs.mask.sum(-1, keepdim=True)
        concentration = ((2 * n / self.delta).double().log() * 2 / batch.unsqueeze(-1)).sqrt()
        return _near(pairs, distances, least_threshold, 2 * sigma * concentration)


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
