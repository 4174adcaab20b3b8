"""The complete graph."""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx
import numpy as np

from byzbench.core import Topology


@dataclass(frozen=True)
class Complete(Topology):
    """Complete graph: each of K agents is linked to all others, with K (K - 1) / 2 edges and diameter 1.

    For K = 1 it is a single node.
    """

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """Return the graph, which is the same in every round."""
        return nx.complete_graph(agents)
