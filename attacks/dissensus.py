"""Dissensus: vectors that cancel the gossip step between honest neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from byzbench.core import AttackContext, FloatRange
from byzbench.core.gossip_attack import GossipAttack, gossip_weights


@dataclass(frozen=True)
class Dissensus(GossipAttack):
    """Gossip attack that sends agent i the vector that cancels its step towards its honest neighbours.

        m[i] = x[i] - eps * sum_{j in H_i} W_ij (x[j] - x[i]) / sum_{j in A_i} W_ij

    x [h, d] the honest vectors, H_i and A_i the honest and the Byzantine agents among i's neighbours, W the gossip
    weights (Metropolis). With eps = 1 the step x[i] + sum_j W_ij (m_j - x[i]) returns x[i] itself; a larger eps drives
    agents apart.

    Source: He, Karimireddy, Jaggi 2022, arXiv 2202.01545.

    Example:
        On a complete graph of three agents, one of them Byzantine, gossip leaves the honest vectors unchanged:

        >>> import torch
        >>> from byzbench.core import AttackContext
        >>> import numpy as np
        >>> attack, honest, mixing = Dissensus(), torch.tensor([[0.0], [6.0]]), torch.full((3, 3), 1 / 3).double()
        >>> ids = {"byzantine_ids": torch.tensor([2]), "honest_ids": torch.tensor([0, 1]), "mixing": mixing}
        >>> edges = np.array([[0, 0], [0, 1]])
        >>> known = {"honest": honest, "byzantine": torch.zeros(1, 1), "edges": edges, **ids}
        >>> context = AttackContext(attack.threat, {"num_agents": 3}, known)
        >>> crafted = attack.craft_messages(context, {}, np.random.default_rng(0))[0].vectors
        >>> (honest.sum() + crafted) / 3
        tensor([[0.],
                [6.]])
    """

    source: ClassVar[str] = "He et al. 2022, arXiv 2202.01545"
    epsilon: Annotated[
        float, Field(gt=0, description="share of the honest step that is cancelled"), FloatRange(0.1, 10, log=True)
    ] = 1.0

    def craft_vectors(self, context: AttackContext) -> Tensor:
        """Craft the vector for each honest agent; see `GossipAttack.craft_vectors`."""
        x = context.honest.double()
        honest_weights, byzantine_weight = gossip_weights(context)
        honest_step = honest_weights @ x - honest_weights.sum(1, keepdim=True) * x
        return x - self.epsilon * honest_step / byzantine_weight.unsqueeze(1)
