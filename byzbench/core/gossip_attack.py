"""Base class of attacks on gossip, which send a different vector to each honest neighbour."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from byzbench.core import AttackContext, ByzantineMessages, MessageAttack, On, State, ThreatModel


@dataclass(frozen=True)
class GossipAttack(MessageAttack):
    """A message attack in which all Byzantine agents send an honest neighbour one vector, crafted for that neighbour.

    Other Byzantine agents receive the honest vectors. So does a server, which does not gossip. A subclass defines
    `craft_vectors`. It may read the graph, which `gossip_weights` summarises.

    Example:
        Each honest agent receives its own vector with the opposite sign:

        >>> @dataclass(frozen=True)
        ... class Mirror(GossipAttack):
        ...     def craft_vectors(self, context):
        ...         return -context.honest
        >>> attack, honest = Mirror(), torch.tensor([[1.0], [2.0]])
        >>> graph = {"byzantine_ids": torch.tensor([0]), "honest_ids": torch.tensor([1, 2])}
        >>> secrets = {"byzantine": torch.zeros(1, 1), "honest": honest, "edges": np.array([[0, 1], [0, 2]]), **graph}
        >>> context = AttackContext(attack.threat, {"num_agents": 3}, secrets)
        >>> attack.craft_messages(context, {}, np.random.default_rng(0))[0].vectors
        tensor([[-1.],
                [-2.]])
    """

    on: On = field(default="parameters", kw_only=True)

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: omniscient, colluding and equivocating, with knowledge of the graph."""
        return ThreatModel(knowledge=frozenset({"byzantine", "honest", "graph"}), equivocates=True)

    @abstractmethod
    def craft_vectors(self, context: AttackContext) -> Tensor:
        """Craft the vector for each honest agent, [h, d].

        The row of an agent without a Byzantine neighbour is not sent, so it may hold anything.
        """

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages: to each honest receiver its own vector."""
        return messages_to_honest(context, self.craft_vectors(context)), memory


def messages_to_honest(context: AttackContext, vectors: Tensor) -> ByzantineMessages:
    """Return the messages that carry to each honest agent its row, and to all others the honest vectors.

    Args:
        context: the declared knowledge about this exchange.
        vectors: [h, d], a row for each honest agent.
    """
    sender, receiver = torch.as_tensor(context.edges).T
    row = torch.full((context.num_agents + 1,), -1)
    row[context.honest_ids] = torch.arange(len(context.honest_ids))
    honest = row[receiver] >= 0
    messages = context.byzantine[sender]
    messages[honest] = vectors[row[receiver[honest]]].to(messages)
    return ByzantineMessages(messages)


def gossip_weights(context: AttackContext) -> tuple[Tensor, Tensor]:
    """Return the gossip weights of each honest agent.

    Returns:
        The weights of honest agents, float64 [h, h], and the total weight of the Byzantine agents, float64 [h].
    """
    rows = context.mixing[context.honest_ids]
    return rows[:, context.honest_ids], rows[:, context.byzantine_ids].sum(1)
