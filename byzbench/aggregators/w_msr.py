"""W-MSR: in each coordinate, ignore the extremes on either side of the own value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators._neighbourhood import Neighbourhood
from byzbench.contracts import Aggregator, State


@dataclass(frozen=True)
class WMsr(Aggregator):
    """In each coordinate, the mean of the own value and the neighbours' that are not too far above or below it.

    Formula: of the neighbours' values x_jk that are larger than the own x_ik the f largest are removed, or all if they
    are fewer; likewise of the smaller ones the f smallest; value_k = the mean of x_ik and the rest. A value between the
    own and an honest one is harmless; one beyond them all is gone.

    Source: LeBlanc, Zhang, Koutsoukos, Sundaram 2013, "Resilient asymptotic consensus in robust networks", IEEE JSAC
    31(4), the weighted mean-subsequence-reduced algorithm.

    Differs from the source in: its values are scalars; here each coordinate is one, by itself.

    Attributes:
        weights: what the rest weigh: all the same, or as the graph's mixing weights say, over their sum. The source
            takes any that are bounded below and sum to one.
    """

    weights: Annotated[Literal["equal", "mixing"], Field(description="what those that are kept weigh")] = "equal"

    source: ClassVar[str] = "LeBlanc et al. 2013, IEEE JSAC 31(4)"
    cost: ClassVar[str] = "n log n d"
    self_centred: ClassVar[bool] = True
    requires: ClassVar[str] = "n >= 2f + 2, as in a (2f + 1)-robust graph, which the graph must be"

    def guarantee(self, n: int, f: int) -> bool:
        """The 2f + 1 neighbours that each agent of a (2f + 1)-robust graph has; that it is one is the user's promise.

        Such a graph bears f liars in every neighbourhood, who may say something else to everybody. The complete graph
        is one for n >= 4f + 1.
        """
        return (n >= 1) & ((n >= 2 * f + 2) | (f == 0))

    def __call__(
        self,
        x: Tensor,
        f: Tensor | int = 0,
        *,
        mask: Tensor | None = None,
        own: Tensor | None = None,
        weights: Tensor | None = None,
        **unused: Any,
    ) -> tuple[Tensor, Tensor | None, State]:
        """See `Aggregator.__call__`."""
        mask = x.new_ones(x.shape[:-1], dtype=torch.bool) if mask is None else mask
        around = Neighbourhood.of(mask, own, weights)
        valid = mask.unsqueeze(-1)
        here = x.take_along_dim(around.column[..., None, None], -2)
        above, below = ((side & valid).sum(-2, keepdim=True) for side in (x > here, x < here))
        bound = torch.as_tensor(f, device=x.device)[..., None, None]
        rank = torch.arange(x.shape[-2], device=x.device).unsqueeze(-1)
        count = valid.sum(-2, keepdim=True)
        ordered, order = x.masked_fill(~valid, torch.inf).sort(dim=-2, stable=True)
        kept = (rank >= below.minimum(bound)) & (rank < count - above.minimum(bound))
        if self.weights == "mixing":
            shares = around.row.unsqueeze(-1).expand_as(order).gather(-2, order).where(kept, 0)
        else:
            shares = kept.double()
        total = (shares * ordered.where(kept, 0)).sum(-2)
        return (total / shares.sum(-2)).to(x.dtype), None, {}
