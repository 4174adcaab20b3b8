"""Shared code of attacks on gossip, which send a different vector to each honest neighbour."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from byzbench.contracts import MessageAttack, On, Speech, State, Threat

if TYPE_CHECKING:
    from byzbench.federation.view import View


@dataclass(frozen=True)
class GossipAttack(MessageAttack):
    """A message attack in which all Byzantine agents send an honest neighbour one vector, crafted for that neighbour.

    Other Byzantine agents receive the honest vectors. So does a server, which does not gossip.
    """

    on: On = field(default="parameters", kw_only=True)

    @property
    def threat(self) -> Threat:
        """Return the threat model: omniscient, colluding and equivocating, with knowledge of the graph."""
        return Threat(sees=frozenset({"colluders", "honest", "graph"}), equivocates=True)

    @abstractmethod
    def craft_vectors(self, view: View) -> Tensor:
        """Craft the vector for each honest agent, [h, d].

        The row of an agent without a Byzantine neighbour is not sent, so it may hold anything.
        """

    def speak(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """Craft the messages: to each honest receiver its own vector."""
        return send_to_honest(view, self.craft_vectors(view)), memory


def send_to_honest(view: View, vectors: Tensor) -> Speech:
    """Return the messages that carry to each honest agent its row, and to all others the honest vectors.

    Args:
        view: the declared knowledge about this exchange.
        vectors: [h, d], a row for each honest agent.
    """
    sender, receiver = torch.as_tensor(view.edges).T
    row = torch.full((view.agents + 1,), -1)
    row[view.peers] = torch.arange(len(view.peers))
    honest = row[receiver] >= 0
    messages = view.colluders[sender]
    messages[honest] = vectors[row[receiver[honest]]].to(messages)
    return Speech(messages)


def gossip_weights(view: View) -> tuple[Tensor, Tensor]:
    """Return the gossip weights of each honest agent.

    Returns:
        The weights of honest agents, float64 [h, h], and the total weight of the Byzantine agents, float64 [h].
    """
    rows = view.mixing[view.peers]
    return rows[:, view.peers], rows[:, view.liars].sum(1)
