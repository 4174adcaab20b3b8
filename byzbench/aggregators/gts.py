"""GTS gossip: the sum over neighbours without the farthest, up to the possible Byzantine weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from byzbench.aggregators._neighbourhood import SLACK, Neighbourhood, Sorted, completed
from byzbench.core import FloatRange, LinearRule, RuleContext, RuleTraits, State
from byzbench.geometry.pairwise_distances import PairwiseDistances


@dataclass(frozen=True)
class Gts(LinearRule):
    """The own vector, moved towards its neighbours except the farthest, whose weight f Byzantine neighbours can have.

    Formula: value = x_i + eta sum_j k_j (x_j - x_i) over the neighbours j, nearest first. k_j = W_ij until the k_j add
    up to the total weight of the neighbours less b, a part of W_ij for the neighbour at the boundary, and zero beyond.
    b = the sum of the f largest W_ij, the largest weight that f neighbours can have. With equal weights it is
    nearest-neighbour averaging, where the weights of dropped neighbours go to the own vector.

    Source: Gaucher, Dieuleveut, Hendrikx 2025, "Unified breakdown analysis for Byzantine robust gossip", ICML (arXiv
    2410.10418): the sum with geometric trimming, in their scheme F-RG.

    Differs from the source in: there b is a parameter, and in the authors' code f times the largest weight.

    Attributes:
        step: eta, as in `cs_plus`.
        compat: "official" drops what the authors' code drops. In that code the neighbour at the boundary keeps the part
            that should be dropped, so that with weights of one and an integer b it drops b + 1 neighbours, even for b =
            0. That code adds up the weights in float32. Where the sum of some of them is the kept weight up to
            rounding, as with equal weights, rounding decides there which neighbour is at the boundary; here such sums
            are equal to it.
    """

    step: Annotated[float, Field(gt=0, le=1, description="eta, step size"), FloatRange(0.1, 1)] = 1.0
    compat: Annotated[
        Literal["exact", "official"],
        Field(description="kept weight: exactly the total less b, or the weight that the authors' code keeps"),
    ] = "exact"

    source: ClassVar[str] = "Gaucher et al. 2025, arXiv 2410.10418"
    cost: ClassVar[str] = "n d"
    traits: ClassVar[RuleTraits] = RuleTraits(linear=True, self_centered=True)
    requires: ClassVar[str] = "n >= 9f + 1, and well connected honest agents"

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether gossip on a complete graph contracts (see `_neighbourhood`): n - f > 8f.

        Sparser graphs need a larger n. Byzantine neighbours that are not dropped are no farther than the honest ones
        dropped instead, whose weight is at most b: |E| <= twice the sum of those W_ij d_j, whose square is at most 4b
        S: rho = 4. The official code drops one neighbour more, and is not covered.
        """
        return (n >= 9 * f + 1) & (self.compat == "exact")

    def compute_weights(self, pairs: PairwiseDistances, f: Tensor, context: RuleContext) -> tuple[Tensor, State]:
        """Return the mixing weights of the neighbours that are not dropped."""
        neighbourhood = Neighbourhood.of(pairs.mask, context.own, context.weights)
        ordered = neighbourhood.near(pairs)
        if self.compat == "official":
            weights_by_distance = as_in_the_code(ordered, f * neighbourhood.shares.amax(-1))
        else:
            weights_by_distance = all_but(ordered, neighbourhood.heaviest(f))
        return completed(self.step * ordered.back(weights_by_distance), neighbourhood.column), {}


def all_but(near: Sorted, dropped: Tensor) -> Tensor:
    """Return the weights [..., n] of the nearest neighbours, of total weight less `dropped` [...].

    The weight of the neighbour at the boundary is reduced.

    Example:
        >>> import torch
        >>> gaps = torch.tensor([1.0, 2.0, 9.0], dtype=torch.float64)
        >>> weights = torch.tensor([0.25, 0.25, 0.25], dtype=torch.float64)
        >>> all_but(Sorted(gaps, weights, torch.arange(3)), torch.tensor(0.375))
        tensor([0.2500, 0.1250, 0.0000], dtype=torch.float64)
    """
    before = near.mass - near.shares
    return (near.target(dropped) - before).clamp_min(0).minimum(near.shares)


def as_in_the_code(near: Sorted, dropped: Tensor) -> Tensor:
    """Return the weights of `all_but`, except at the boundary: there, the part that `all_but` drops."""
    is_below = near.mass < near.target(dropped) - SLACK * near.mass[..., -1:]
    is_boundary = (near.mass - near.shares < near.target(dropped)) & ~is_below
    rest = (near.mass - near.target(dropped)).clamp_min(0)
    return near.shares.where(is_below, rest.where(is_boundary, 0))
