"""Self-centred clipping: gossip with the differences to the neighbours clipped to a radius."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators._neighbourhood import Neighbourhood, Sorted, completed
from byzbench.aggregators.rfa import TINY
from byzbench.core import FloatRange, LinearRule, RuleContext, RuleTraits, State
from byzbench.errors import Undefined
from byzbench.geometry.pairwise_distances import PairwiseDistances


@dataclass(frozen=True)
class SelfCenteredClipping(LinearRule):
    """The own vector, moved towards each neighbour by its weight times the difference clipped to a radius.

    Formula: value = x_i + sum_j W_ij (x_j - x_i) min(1, tau / ||x_j - x_i||) over the neighbours j, with the mixing
    weights W [n] of the receiver i. As weights: W_ij min(1, tau / ||x_j - x_i||) for j, and the remainder of one for i.

    The radius tau, where b is the Byzantine weight and d_j = ||x_j - x_i||:
    - adaptive: sqrt((1/b) sum of W_ij d_j^2 over the nearest neighbours whose total weight is at most that of all less
      b); zero if there is no such neighbour. b = the sum of the f largest W_ij, the largest weight that f neighbours
      can have; where it is zero nothing is clipped.
    - second: the second largest d_j; of a single neighbour its d_j. Two Byzantine neighbours can set it to any value.
    - fixed: a number, in the units of the inputs. No number suits two scales, such as the start and the end of a run.
    - oracle: sqrt(sum over the honest j of W_ij d_j^2 / sum over the Byzantine j of W_ij): the radius of the source's
      analysis, which no agent can know; without Byzantine neighbours nothing is clipped.

    The default is adaptive: it needs f only, scales with the inputs, and bounds the effect of f Byzantine agents for
    any f.

    Source: He, Karimireddy, Jaggi 2022, "Byzantine-robust decentralized learning via ClippedGossip", arXiv 2202.01545.
    `second` is the default of the authors' code; `adaptive` is their practical radius as in the code of Gaucher,
    Dieuleveut, Hendrikx 2025, arXiv 2410.10418.

    Differs from the source in: that code's b is f times the largest weight. Where the total weight of the nearest
    neighbours is exactly that of all less b, that code leaves out the last of them.

    Attributes:
        radius: how tau is computed.
        tau: the radius, if it is fixed.
    """

    radius: Annotated[
        Literal["adaptive", "second", "fixed", "oracle"], Field(description="how the radius is computed")
    ] = "adaptive"
    tau: Annotated[float, Field(gt=0, description="radius, if it is fixed"), FloatRange(0.01, 100, log=True)] = 1.0

    source: ClassVar[str] = "He et al. 2022, arXiv 2202.01545"
    cost: ClassVar[str] = "n d"

    @property
    def traits(self) -> RuleTraits:  # type: ignore[override]
        """Return the traits; it is scale-equivariant unless the radius is fixed."""
        return RuleTraits(linear=True, self_centered=True, scale_equivariant=self.radius != "fixed")

    @property
    def required_inputs(self) -> frozenset[str]:  # type: ignore[override]
        """Return the required fields of the context: `honest` for the oracle."""
        return frozenset({"honest"} if self.radius == "oracle" else ())

    @property
    def requires(self) -> str:  # type: ignore[override]
        """Return the condition of the radius; `guarantee` derives it."""
        condition = "f <= 1 and n >= 3f + 1" if self.radius == "second" else "n >= 5f"
        spread = ", a radius that fits their spread," if self.radius == "fixed" else ""
        return f"{condition}{spread} and well connected honest agents"

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether gossip on a complete graph contracts (see `_neighbourhood`): n - f > 2 rho f.

        Sparser graphs need a larger n. |E| <= b tau + sum of the honest W_ij (d_j - tau)+, and (d - tau)+ <= d^2 / 4
        tau, so the oracle's tau = sqrt(S/b) makes rho = (5/4)^2. So does the adaptive one: b tau^2 = S - S_q + S_l,
        where honest neighbours of weight q are left out for nearer Byzantine neighbours l. They add sqrt(q S_q) - q tau
        to |E|, and the worst case is again q = 0. The second largest distance makes rho = 1 while f <= 1.
        """
        if self.radius == "second":
            return (n >= 1) & (f <= 1) & (n >= 3 * f + 1)
        return (n >= 1) & (n >= 5 * f)

    def compute_weights(self, pairs: PairwiseDistances, f: Tensor, context: RuleContext) -> tuple[Tensor, State]:
        """Return the clipped mixing weights.

        Raises:
            Undefined: the radius is the oracle's and `honest` is None.
        """
        neighbourhood = Neighbourhood.of(pairs.mask, context.own, context.weights)
        if self.radius == "fixed":
            radius = torch.full_like(neighbourhood.column, self.tau, dtype=torch.float64)
        elif self.radius == "second":
            radius = _second(neighbourhood.near(pairs))
        elif self.radius == "adaptive":
            ordered, b = neighbourhood.near(pairs), neighbourhood.heaviest(f)
            radius = _balanced(ordered.gaps, ordered.shares.where(ordered.within(b), 0), b)
        elif context.honest is None:
            raise Undefined("the oracle's radius needs the mask of honest senders, which only a simulation knows")
        else:
            byzantine_weight = neighbourhood.shares.where(~context.honest, 0).sum(-1)
            honest_shares = neighbourhood.shares.where(context.honest, 0)
            radius = _balanced(neighbourhood.gaps(pairs), honest_shares, byzantine_weight)
        return completed(neighbourhood.clipped(pairs, radius), neighbourhood.column), {}


def _balanced(gaps: Tensor, shares: Tensor, byzantine_weight: Tensor) -> Tensor:
    """Return sqrt(sum of shares gaps^2 / byzantine_weight) over [..., n]: [...].

    It is infinite where the Byzantine weight is zero.
    """
    squares = (shares * gaps.where(shares > 0, 0).square()).sum(-1)
    return (squares / byzantine_weight.clamp_min(TINY)).sqrt().masked_fill(byzantine_weight <= 0, torch.inf)


def _second(ordered: Sorted) -> Tensor:
    """Return the second largest finite distance, [...]; of a single one, that one; without any, an arbitrary number."""
    count = ordered.gaps.isfinite().sum(-1, keepdim=True)
    return ordered.gaps.gather(-1, torch.where(count >= 2, count - 2, 0)).squeeze(-1)
