"""FedPG-BR's filter: the mean of what lies near a vector that most agree with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from byzbench.contracts import LinearRule, Range, State
from byzbench.geometry.cloud import Cloud, even


@dataclass(frozen=True)
class FedpgFilter(LinearRule):
    """The mean of all gradients within a threshold of one that is itself within it of most.

    Formula: for a threshold T, S = {i: #{j: ||x_i - x_j|| <= T} > n/2}, itself counted; mom = the element of S nearest
    to mean(S), of equals the first; G = {i: ||x_i - mom|| <= T}. First T = 2 sigma sqrt(V/B) with V = 2 log(2n/delta);
    if |G| < n - f, once more with T = 2 sigma. value = mean(G).

    Two honest gradients of B trajectories each, which deviate from their expectation by sigma at most, are within the
    first T of each other with probability 1 - delta, and within the second always.

    Source: Fan, Ma, Dai, Jing, Tan, Low 2021, "Fault-tolerant federated reinforcement learning with theoretical
    guarantee", NeurIPS (arXiv 2110.14074), algorithm 1.1. By default sigma and delta are the official code's for
    CartPole, whose gradients are short because it whitens returns.

    Differs from the source in: n, what was received, in place of the number of agents; and if nobody is within 2 sigma
    of most, where the source has no aggregate, T is the least threshold at which somebody is.

    Attributes:
        sigma: the bound on an honest gradient's deviation, in the units of the inputs.
        delta: the probability that the first threshold may fail with.
        batch: B, trajectories in a gradient.
    """

    sigma: Annotated[float, Field(gt=0, description="bound on deviations"), Range(0.01, 10, log=True)] = 0.06
    delta: Annotated[float, Field(gt=0, lt=1, description="probability that the first threshold fails")] = 0.6
    batch: Annotated[int, Field(ge=1, description="trajectories in a gradient")] = 16

    source: ClassVar[str] = "Fan et al. 2021, arXiv 2110.14074"
    cost: ClassVar[str] = "n^2 d"
    scale_equivariant: ClassVar[bool] = False
    requires: ClassVar[str] = "n >= 2f + 1, and a sigma that bounds honest deviations"

    def defined(self, n: int, f: int) -> bool:
        """Somebody is to be trusted."""
        return n > f

    def guarantee(self, n: int, f: int) -> bool:
        """An honest majority; that sigma fits is the user's promise."""
        return (n >= 1) & (n >= 2 * f + 1)

    def weigh(self, cloud: Cloud, f: Tensor, **unused: Any) -> tuple[Tensor, State]:
        """Equal weights on G."""
        n = cloud.mask.sum(-1, keepdim=True)
        distances = cloud.distances.masked_fill(~cloud.mask.unsqueeze(-2), torch.inf)
        # For each, the least threshold at which it is within it of more than half.
        reach = distances.sort(-1).values.take_along_dim((n // 2).unsqueeze(-1), -1).squeeze(-1)
        reach = reach.masked_fill(~cloud.mask, torch.inf)
        first = 2 * self.sigma * ((2 * n / self.delta).double().log() * 2 / self.batch).sqrt()
        near = _near(cloud, distances, reach, first)
        enough = near.sum(-1, keepdim=True) >= n - f.unsqueeze(-1)
        again = reach.amin(-1, keepdim=True).clamp_min(2 * self.sigma)
        near = near.where(enough, _near(cloud, distances, reach, again))
        return even(near), {}


def _near(cloud: Cloud, distances: Tensor, reach: Tensor, threshold: Tensor) -> Tensor:
    """G for a threshold [..., 1]: bool [..., n], all False where S is empty."""
    central = reach <= threshold
    count = central.sum(-1, keepdim=True)
    gaps = cloud.distances_to(central.double() / count.clamp_min(1)).masked_fill(~central, torch.inf)
    # Two are equally far from their mean, whatever rounding says.
    nearest = gaps <= gaps.amin(-1, keepdim=True) * (1 + 1e-9)
    chosen = nearest.int().argmax(-1, keepdim=True)
    around = distances.take_along_dim(chosen.unsqueeze(-1), -2).squeeze(-2)
    return (around <= threshold) & (count > 0)
