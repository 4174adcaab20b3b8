"""GTS gossip: the sum over neighbours, without the farthest that the liars' weight covers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from byzbench.aggregators._neighbourhood import SLACK, Neighbourhood, Sorted, completed
from byzbench.contracts import LinearRule, Range, State
from byzbench.geometry.cloud import Cloud


@dataclass(frozen=True)
class Gts(LinearRule):
    """The own vector, moved towards its neighbours except for the farthest of them, as much as liars can weigh.

    Formula: value = x_i + eta sum_j k_j (x_j - x_i) over the neighbours j, nearest first, where k_j = W_ij until the
    k_j add up to all the neighbours' weight less b, a part of W_ij for the one at the boundary, and zero beyond.
    b = the sum of the f largest W_ij, the most that f can weigh. With equal weights it is nearest-neighbour averaging,
    in which those that are dropped leave their weight to the own vector.

    Source: Gaucher, Dieuleveut, Hendrikx 2025, "Unified breakdown analysis for Byzantine robust gossip", ICML (arXiv
    2410.10418): the sum with geometric trimming, in their scheme F-RG.

    Differs from the source in: there b is a parameter, in the code f times the largest weight.

    Attributes:
        step: eta, as in `cs_plus`.
        compat: "official" drops what the authors' code does. There the neighbour at the boundary keeps what should be
            dropped of it, so that with weights of one and a whole b it drops b + 1 neighbours, even for b = 0.
    """

    step: Annotated[float, Field(gt=0, le=1, description="eta, how far it goes"), Range(0.1, 1)] = 1.0
    compat: Annotated[
        Literal["exact", "official"], Field(description="what is kept: exactly all less b, or what the code keeps")
    ] = "exact"

    source: ClassVar[str] = "Gaucher et al. 2025, arXiv 2410.10418"
    cost: ClassVar[str] = "n d"
    self_centred: ClassVar[bool] = True
    requires: ClassVar[str] = "n >= 9f + 1, and well connected honest agents"

    def guarantee(self, n: int, f: int) -> bool:
        """Whether complete graphs contract (see `_neighbourhood`): n - f > 8f; other graphs need more.

        Liars that are kept pull no harder than the honest ones dropped in their place, b at most: |E| <= twice the sum
        of those W_ij d_j, and that squared <= 4b S: rho = 4. The official code drops one more, and is not covered.
        """
        return (n >= 9 * f + 1) & (self.compat == "exact")

    def weigh(
        self, cloud: Cloud, f: Tensor, *, own: Tensor | None = None, weights: Tensor | None = None, **unused: Any
    ) -> tuple[Tensor, State]:
        """The mixing weights of those that are kept."""
        around = Neighbourhood.of(cloud.mask, own, weights)
        near = around.near(cloud)
        if self.compat == "official":
            kept = as_in_the_code(near, f * around.shares.amax(-1))
        else:
            kept = all_but(near, around.heaviest(f))
        return completed(self.step * near.back(kept), around.column), {}


def all_but(near: Sorted, dropped: Tensor) -> Tensor:
    """The weights [..., n] of the nearest that make up all the weight less `dropped` [...], the last one in part."""
    before = near.mass - near.shares
    return (near.target(dropped) - before).clamp_min(0).minimum(near.shares)


def as_in_the_code(near: Sorted, dropped: Tensor) -> Tensor:
    """The same, but where `all_but` cuts one at the boundary in two, this keeps the other piece."""
    short = near.mass < near.target(dropped) - SLACK * near.mass[..., -1:]
    boundary = (near.mass - near.shares < near.target(dropped)) & ~short
    rest = (near.mass - near.target(dropped)).clamp_min(0)
    return near.shares.where(short, rest.where(boundary, 0))
