"""CS+ gossip: a sum of clipped differences, with a radius that leaves twice the Byzantine weight outside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from byzbench.aggregators._neighbourhood import Neighbourhood, completed
from byzbench.core import FloatRange, LinearRule, RuleContext, RuleTraits, State
from byzbench.geometry.pairwise_distances import PairwiseDistances


@dataclass(frozen=True)
class CsPlus(LinearRule):
    """The own vector, moved towards each neighbour by differences clipped to an adaptive radius.

    Formula: value = x_i + eta sum_j W_ij (x_j - x_i) min(1, tau / ||x_j - x_i||) over the neighbours j; tau = the
    largest ||x_j - x_i|| for which the total weight of the neighbours up to j, nearest first, is at most that of all
    neighbours less 2b. If there is no such j, tau is zero and the value is the own vector. b = the sum of the f largest
    W_ij, the largest weight that f neighbours can have.

    Source: Gaucher, Dieuleveut, Hendrikx 2025, "Unified breakdown analysis for Byzantine robust gossip", ICML (arXiv
    2410.10418): the robust sum CS+ in their scheme F-RG.

    Differs from the source in: there b is a parameter, and in the authors' code f times the largest weight. Sums of
    weights are compared up to rounding, which decides in that code.

    Attributes:
        step: eta. The source has 1 / the largest eigenvalue of the weighted graph's Laplacian where each edge has
            weight one; for the weights of a mixing matrix this is one.
    """

    step: Annotated[float, Field(gt=0, le=1, description="eta, step size"), FloatRange(0.1, 1)] = 1.0

    source: ClassVar[str] = "Gaucher et al. 2025, arXiv 2410.10418"
    cost: ClassVar[str] = "n d"
    traits: ClassVar[RuleTraits] = RuleTraits(linear=True, self_centered=True)
    requires: ClassVar[str] = "n >= 5f + 1, and well connected honest agents"

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether gossip on a complete graph contracts (see `_neighbourhood`): n - f > 4f.

        Sparser graphs need a larger n.

        Of the weight 2b outside tau at least b is honest, so |E| <= b tau + sum of their W_ij (d_j - tau) <= the sum of
        their W_ij d_j, whose square is at most 2b S: rho = 2.
        """
        return n >= 5 * f + 1

    def compute_weights(self, pairs: PairwiseDistances, f: Tensor, context: RuleContext) -> tuple[Tensor, State]:
        """Return the clipped mixing weights."""
        neighbourhood = Neighbourhood.of(pairs.mask, context.own, context.weights)
        ordered = neighbourhood.near(pairs)
        radius = ordered.gaps.where(ordered.within(2 * neighbourhood.heaviest(f)), 0).amax(-1)
        return completed(self.step * neighbourhood.clipped(pairs, radius), neighbourhood.column), {}
