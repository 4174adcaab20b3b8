"""Isolation: liars who leave each neighbour with what it had, as if it had nobody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from byzbench.attacks._graph import Gossiping, shares

if TYPE_CHECKING:
    from byzbench.federation.view import View


@dataclass(frozen=True)
class Isolation(Gossiping):
    """All liars tell agent i the vector that makes its average over all that it hears its own vector.

        m[i] = (x[i] - sum_{j in H_i or j = i} w_ij x[j]) / sum_{j in A_i} w_ij

    x [h, d] the honest vectors, H_i and A_i the honest agents and the liars among i's neighbours. The weights w are
    gossip's (Metropolis), for which it is `dissensus` with epsilon = 1; or uniform, 1/n over the n messages that i
    holds, its own included, for agents who take plain means. On a regular graph both are the same.

    Source: the official code of Wu, Chen, Ling 2023, arXiv 2206.04568 (IOS).

    Differs from the source in: with uniform weights, the code sends (h_i x[i] - sum_{j in H_i} x[j]) / a_i, for h_i
    honest neighbours and a_i liars; the average is x[i] only if x[i] is added to that.
    """

    source: ClassVar[str] = "Wu et al. 2023, arXiv 2206.04568, official code"
    weights: Annotated[Literal["metropolis", "uniform"], Field(description="how the neighbours average")] = "metropolis"

    def words(self, view: View) -> Tensor:
        """See `Gossiping.words`."""
        x = view.honest.double()
        between, ours = shares(view)
        if self.weights == "uniform":
            # Neighbours have positive weights; any common factor cancels.
            between = (between > 0).double()
            ours = (view.mixing[view.peers][:, view.liars] > 0).sum(1)
        return x - (between @ x - between.sum(1, keepdim=True) * x) / ours.unsqueeze(1)
