"""Peer sampling: everyone meets a few others at random, and others the next round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.contracts import Range, Topology
from byzbench.topologies._drawn import at_least, stream, tidy


@dataclass(frozen=True)
class PeerSampling(Topology):
    """In every round each agent draws k others, uniformly, and hears them and those that drew it.

    No seat is worth more than another for long, and no victim has the same liars around it twice. The graph of one
    round need not be connected; with k >= 2 it nearly always is.

    directed: it hears just the k that it drew, so every inbox has k + 1 vectors.

    Source: Jelasity, Voulgaris, Guerraoui, Kermarrec, van Steen 2007, Gossip-based peer sampling, ACM TOCS 25(3);
    for learning de Vos et al. 2023, Epidemic learning, arXiv 2310.01972.

    Differs from the source in: samples are uniform and independent, as an ideal sampler's are, and liars have no
    influence on them; in epidemic learning an agent draws whom it tells, not whom it hears.

    Attributes:
        peers: k.
    """

    varies: ClassVar[bool] = True
    source: ClassVar[str] = "Jelasity et al. 2007, ACM TOCS 25(3); de Vos et al. 2023, arXiv 2310.01972"
    peers: Annotated[int, Field(ge=1, description="others that each draws in a round"), Range(1, 8)] = 3
    directed: Annotated[bool, Field(description="whether only the one who draws hears the other")] = False

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """Another graph at every round, from the same rng."""
        at_least(f"peer_sampling: peers={self.peers}", agents, self.peers + 1)
        here = stream(int(rng.integers(2**63)), round)
        graph = nx.empty_graph(agents, nx.DiGraph if self.directed else nx.Graph)
        for agent in range(agents):
            others = here.choice(agents - 1, self.peers, replace=False)
            graph.add_edges_from((int(other + (other >= agent)), agent) for other in others)
        return tidy(graph)
