"""The complete binary tree."""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx
import numpy as np

from byzbench.core import Topology


@dataclass(frozen=True)
class BinaryTree(Topology):
    """Binary tree in which agent k is linked to agents 2 k + 1 and 2 k + 2 if they exist.

    It has K - 1 edges and a diameter of about 2 log2 K. Every Byzantine agent that is not a leaf disconnects the honest
    agents. The lower its number, the larger the subtree that it cuts off.

    Example:
        >>> list(BinaryTree()(5, 0, np.random.default_rng(0)).edges)
        [(0, 1), (0, 2), (1, 3), (1, 4)]
    """

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """Return the graph, which is the same in every round."""
        graph = nx.empty_graph(agents)
        graph.add_edges_from(((k - 1) // 2, k) for k in range(1, agents))
        return graph
