"""The ring, also called cycle graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.core import Topology
from byzbench.geometry.graph_families import require_agents


@dataclass(frozen=True)
class Ring(Topology):
    """Ring in which agent k is linked to agents k - 1 and k + 1 modulo K, with K edges and diameter floor(K / 2).

    Its spectral gap is of order 1 / K^2, so gossip on it mixes slowly. With `directed`, agent k + 1 receives only from
    agent k.

    Attributes:
        directed: every agent receives only from its predecessor.
    """

    directed: Annotated[bool, Field(description="every agent receives only from its predecessor")] = False

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """Return the graph, which is the same in every round."""
        require_agents("ring", agents, 3)
        return nx.cycle_graph(agents, nx.DiGraph if self.directed else nx.Graph)
