"""The path graph."""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx
import numpy as np

from byzbench.core import Topology


@dataclass(frozen=True)
class Path(Topology):
    """Path in which agent k is linked to agents k - 1 and k + 1, with K - 1 edges and diameter K - 1.

    Every agent except the two at the ends is a cut vertex: if it is Byzantine, the honest agents are disconnected.
    """

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """Return the graph, which is the same in every round."""
        return nx.path_graph(agents)
