"""Isolation: vectors with which the average of each neighbour is its own vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from byzbench.core.gossip_attack import GossipAttack, gossip_weights

if TYPE_CHECKING:
    from byzbench.core.context import AttackContext


@dataclass(frozen=True)
class Isolation(GossipAttack):
    """Gossip attack that sends agent i the vector with which the average over its inbox is its own vector.

        m[i] = (x[i] - sum_{j in H_i or j = i} w_ij x[j]) / sum_{j in A_i} w_ij

    x [h, d] the honest vectors, H_i and A_i the honest and the Byzantine agents among i's neighbours. The weights w are
    those of gossip (Metropolis), with which it equals `dissensus` with epsilon = 1; or uniform, 1/n over the n messages
    of i's inbox, its own included, for agents that take plain means. On a regular graph both are the same.

    Source: the official code of Wu, Chen, Ling 2023, arXiv 2206.04568 (IOS).

    Differs from the source in: with uniform weights, the code sends (h_i x[i] - sum_{j in H_i} x[j]) / a_i, for h_i
    honest and a_i Byzantine neighbours; the average is x[i] only if x[i] is added to that.
    """

    source: ClassVar[str] = "Wu et al. 2023, arXiv 2206.04568, official code"
    weights: Annotated[
        Literal["metropolis", "uniform"], Field(description="weights by which the neighbours average")
    ] = "metropolis"

    def craft_vectors(self, context: AttackContext) -> Tensor:
        """Craft the vector for each honest agent; see `GossipAttack.craft_vectors`."""
        x = context.honest.double()
        honest_weights, byzantine_weight = gossip_weights(context)
        if self.weights == "uniform":
            # Neighbours are the agents of positive weight. The common factor 1/n cancels.
            honest_weights = (honest_weights > 0).double()
            byzantine_weight = (context.mixing[context.honest_ids][:, context.byzantine_ids] > 0).sum(1)
        return x - (honest_weights @ x - honest_weights.sum(1, keepdim=True) * x) / byzantine_weight.unsqueeze(1)
