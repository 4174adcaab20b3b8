"""BALANCE: average with the neighbours that are similar to the own vector, with a decreasing threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators._neighbourhood import Neighbourhood, blend
from byzbench.core import FloatRange, LinearRule, RuleContext, RuleTraits, State
from byzbench.geometry.pairwise_distances import PairwiseDistances


@dataclass(frozen=True)
class Balance(LinearRule):
    """A weighted mean of the own vector and of the neighbours within a distance that decreases from call to call.

    Formula: j is accepted if ||x_i - x_j|| <= gamma exp(-kappa t/T) ||x_i||; value = alpha x_i + (1 - alpha) times the
    mean of the accepted x_j, or x_i if none is accepted. t = 0, 1, .. counts the calls, up to T.

    The threshold is relative to the length of the own vector, which suits parameters. Gradients have no large common
    part: they are usually farther apart than a third of their length, and all would be rejected.

    Source: Fang, Zhang, Hairi, Khanduri, Liu, Lu, Liu, Gong 2024, "Byzantine-robust decentralized federated learning",
    CCS (arXiv 2406.10416).

    Differs from the source in: as far as we know, the source does not define the value where no neighbour is accepted.
    Some implementations then take the nearest neighbour, which may be Byzantine. The default of gamma is from memory;
    copies have values from 0.3 to 2.

    State: `rounds` [..., 1], how often each receiver called.

    Attributes:
        alpha: the weight of the own vector.
        gamma: the initial threshold, in lengths of the own vector.
        decay: kappa, the rate at which the threshold decreases.
        horizon: T, for how many calls the threshold decreases. Each exchange is a call, also where a round has several.
    """

    alpha: Annotated[float, Field(ge=0, le=1, description="weight of the own vector"), FloatRange(0.1, 0.9)] = 0.5
    gamma: Annotated[
        float, Field(gt=0, description="initial threshold, in lengths of the own vector"), FloatRange(0.03, 3, log=True)
    ] = 0.3
    decay: Annotated[
        float, Field(ge=0, description="kappa, rate at which the threshold decreases"), FloatRange(0.1, 5, log=True)
    ] = 1.0
    horizon: Annotated[int, Field(ge=1, description="T, for how many calls the threshold decreases")] = 100

    source: ClassVar[str] = "Fang et al. 2024, arXiv 2406.10416"
    cost: ClassVar[str] = "n d"
    traits: ClassVar[RuleTraits] = RuleTraits(linear=True, stateful=True, self_centered=True)
    requires: ClassVar[str] = "n >= 1, and a gamma that separates Byzantine from honest vectors"

    def compute_weights(self, pairs: PairwiseDistances, f: Tensor, context: RuleContext) -> tuple[Tensor, State]:
        """Give weight alpha to the own vector and equal weights to the accepted neighbours.

        It reads neither f nor mixing weights.
        """
        neighbourhood = Neighbourhood.of(pairs.mask, context.own, None)
        column = neighbourhood.column.unsqueeze(-1)
        rounds = context.state["rounds"] if context.state else torch.zeros_like(column, dtype=torch.float64)
        threshold = self.gamma * torch.exp(-self.decay * (rounds / self.horizon).clamp_max(1))
        accepted = neighbourhood.gaps(pairs) <= threshold * pairs.norms.gather(-1, column)
        return blend(accepted, neighbourhood.column, self.alpha), {"rounds": rounds + 1}
