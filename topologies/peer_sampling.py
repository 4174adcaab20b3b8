"""Peer sampling: in every round each agent draws a few random neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.core import FloatRange, Topology
from byzbench.geometry.graph_families import derive_generator, require_agents, sort_graph


@dataclass(frozen=True)
class PeerSampling(Topology):
    """Random graph of each round, in which every agent draws k others uniformly and is linked to them.

    No position keeps an advantage for more than one round, and an honest agent rarely has the same Byzantine neighbours
    twice. The graph of one round need not be connected. With k >= 2 it is connected with high probability.

    With `directed`, an agent receives only from the k agents that it drew, so every inbox has k + 1 vectors.

    Source: Jelasity, Voulgaris, Guerraoui, Kermarrec, van Steen 2007, Gossip-based peer sampling, ACM TOCS 25(3);
    for learning de Vos et al. 2023, Epidemic learning, arXiv 2310.01972.

    Differs from the source in: samples are uniform and independent, as those of an ideal sampler, and Byzantine
    agents have no influence on them. In epidemic learning an agent draws its receivers; here it draws its senders.

    Attributes:
        peers: k, the number of agents that each agent draws in a round.
        directed: an agent receives only from the agents that it drew.
    """

    varies: ClassVar[bool] = True
    source: ClassVar[str] = "Jelasity et al. 2007, ACM TOCS 25(3); de Vos et al. 2023, arXiv 2310.01972"
    peers: Annotated[int, Field(ge=1, description="neighbours that each agent draws in a round"), FloatRange(1, 8)] = 3
    directed: Annotated[bool, Field(description="an agent receives only from the agents that it drew")] = False

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """Draw the graph of a round; a generator in the same state gives the same graph for the same round."""
        require_agents(f"peer_sampling: peers={self.peers}", agents, self.peers + 1)
        round_rng = derive_generator(int(rng.integers(2**63)), round)
        graph = nx.empty_graph(agents, nx.DiGraph if self.directed else nx.Graph)
        for agent in range(agents):
            others = round_rng.choice(agents - 1, self.peers, replace=False)
            graph.add_edges_from((int(other + (other >= agent)), agent) for other in others)
        return sort_graph(graph)
