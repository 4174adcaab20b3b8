"""CS+ gossip: a clipped sum whose radius leaves twice the liars' weight outside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field
from torch import Tensor

from byzbench.aggregators._neighbourhood import Neighbourhood, completed
from byzbench.contracts import LinearRule, Range, State
from byzbench.geometry.cloud import Cloud


@dataclass(frozen=True)
class CsPlus(LinearRule):
    """The own vector, moved towards each neighbour by no more than from the radius that twice the liars are outside of.

    Formula: value = x_i + eta sum_j W_ij (x_j - x_i) min(1, tau / ||x_j - x_i||) over the neighbours j; tau = the
    largest ||x_j - x_i|| for which the neighbours up to j, nearest first, weigh no more than all of them less 2b; zero
    if there is none, and the value is the own vector. b = the sum of the f largest W_ij, the most that f can weigh.

    Source: Gaucher, Dieuleveut, Hendrikx 2025, "Unified breakdown analysis for Byzantine robust gossip", ICML (arXiv
    2410.10418): the robust sum CS+ in their scheme F-RG.

    Differs from the source in: there b is a parameter, in the code f times the largest weight. Sums of weights are
    compared up to rounding, which decides in that code.

    Attributes:
        step: eta. The source has 1 / the largest eigenvalue of the weighted graph's Laplacian, if each edge weighs one;
            for weights of a mixing matrix, one.
    """

    step: Annotated[float, Field(gt=0, le=1, description="eta, how far it goes"), Range(0.1, 1)] = 1.0

    source: ClassVar[str] = "Gaucher et al. 2025, arXiv 2410.10418"
    cost: ClassVar[str] = "n d"
    self_centred: ClassVar[bool] = True
    requires: ClassVar[str] = "n >= 5f + 1, and well connected honest agents"

    def guarantee(self, n: int, f: int) -> bool:
        """Whether complete graphs contract (see `_neighbourhood`): n - f > 4f; other graphs need more.

        Of the 2b outside tau at least b are honest, so |E| <= b tau + sum of their W_ij (d_j - tau) <= the sum of their
        W_ij d_j, and that squared <= 2b S: rho = 2.
        """
        return n >= 5 * f + 1

    def weigh(
        self, cloud: Cloud, f: Tensor, *, own: Tensor | None = None, weights: Tensor | None = None, **unused: Any
    ) -> tuple[Tensor, State]:
        """The mixing weights, clipped."""
        around = Neighbourhood.of(cloud.mask, own, weights)
        near = around.near(cloud)
        radius = near.gaps.where(near.within(2 * around.heaviest(f)), 0).amax(-1)
        return completed(self.step * around.clipped(cloud, radius), around.column), {}
