"""What attacks on gossip have in common: they tell each honest neighbour something else."""

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
class Gossiping(MessageAttack):
    """All liars tell an honest neighbour one vector that is made for it.

    Fellow liars hear the truth, and so does a server, which does not gossip.
    """

    on: On = field(default="parameters", kw_only=True)

    @property
    def threat(self) -> Threat:
        """Omniscient, colluding, equivocating, and knows the graph."""
        return Threat(sees=frozenset({"colluders", "honest", "graph"}), equivocates=True)

    @abstractmethod
    def words(self, view: View) -> Tensor:
        """What each honest agent is told, [h, d]; whatever it is where no liar is a neighbour, nobody hears it."""

    def speak(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """To each receiver its own vector."""
        return tell(view, self.words(view)), memory


def tell(view: View, words: Tensor) -> Speech:
    """Its own row of words [h, d] to each honest agent, and the truth to all others."""
    speaker, receiver = torch.as_tensor(view.edges).T
    row = torch.full((view.agents + 1,), -1)
    row[view.peers] = torch.arange(len(view.peers))
    honest = row[receiver] >= 0
    said = view.colluders[speaker]
    said[honest] = words[row[receiver[honest]]].to(said)
    return Speech(said)


def shares(view: View) -> tuple[Tensor, Tensor]:
    """What each honest agent's gossip gives to honest agents: float64 [h, h]; and to all liars together, [h]."""
    rows = view.mixing[view.peers]
    return rows[:, view.peers], rows[:, view.liars].sum(1)
