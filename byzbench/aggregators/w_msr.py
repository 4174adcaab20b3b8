"""W-MSR: per coordinate, ignore the most extreme values above and below the own value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators._neighbourhood import Neighbourhood
from byzbench.core import Aggregator, RuleContext, RuleOutput, RuleTraits


@dataclass(frozen=True)
class WMsr(Aggregator):
    """The mean, in each coordinate, of the own value and the neighbours' values that are not the most extreme.

    Formula: of the neighbours' values x_jk that are larger than the own x_ik the f largest are removed, or all if they
    are fewer; likewise of the smaller ones the f smallest; value_k = the mean of x_ik and the remaining values. A
    Byzantine value between the own and an honest one does no harm; one beyond all honest values is removed.

    Source: LeBlanc, Zhang, Koutsoukos, Sundaram 2013, "Resilient asymptotic consensus in robust networks", IEEE JSAC
    31(4), the weighted mean-subsequence-reduced algorithm.

    Differs from the source in: its values are scalars; here the rule is applied to each coordinate by itself.

    Attributes:
        weights: the weights of the remaining values: equal, or the graph's mixing weights divided by their sum. The
            source allows any that are bounded below and sum to one.

    Example:
        >>> x = torch.tensor([[2.0], [1.0], [3.0], [100.0]])
        >>> WMsr()(x, 1, RuleContext(own=torch.tensor(0)))[0]
        tensor([2.5000])
    """

    weights: Annotated[Literal["equal", "mixing"], Field(description="weights of the remaining values")] = "equal"

    source: ClassVar[str] = "LeBlanc et al. 2013, IEEE JSAC 31(4)"
    cost: ClassVar[str] = "n log n d"
    traits: ClassVar[RuleTraits] = RuleTraits(self_centered=True)
    requires: ClassVar[str] = "n >= 2f + 2, and a (2f + 1)-robust graph"

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether there are the 2f + 1 neighbours that each agent of a (2f + 1)-robust graph has.

        The user has to ensure that the graph is (2f + 1)-robust. Such a graph tolerates f Byzantine agents in every
        neighbourhood, also if they send different messages to different agents. The complete graph is (2f + 1)-robust
        for n >= 4f + 1.
        """
        return (n >= 1) & ((n >= 2 * f + 2) | (f == 0))

    def aggregate(self, x: Tensor, f: Tensor, context: RuleContext) -> RuleOutput:
        """Average the remaining values of each coordinate; see `Aggregator.aggregate`."""
        mask = context.mask_of(x)
        neighbourhood = Neighbourhood.of(mask, context.own, context.weights)
        valid = mask.unsqueeze(-1)
        own_vector = x.take_along_dim(neighbourhood.column[..., None, None], -2)
        above, below = ((comparison & valid).sum(-2, keepdim=True) for comparison in (x > own_vector, x < own_vector))
        bound = f[..., None, None]
        rank = torch.arange(x.shape[-2], device=x.device).unsqueeze(-1)
        count = valid.sum(-2, keepdim=True)
        ordered, order = x.masked_fill(~valid, torch.inf).sort(dim=-2, stable=True)
        remains = (rank >= below.minimum(bound)) & (rank < count - above.minimum(bound))
        if self.weights == "mixing":
            shares = neighbourhood.row.unsqueeze(-1).expand_as(order).gather(-2, order).where(remains, 0)
        else:
            shares = remains.double()
        total = (shares * ordered.where(remains, 0)).sum(-2)
        return RuleOutput((total / shares.sum(-2)).to(x.dtype), None, {})
