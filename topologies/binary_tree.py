"""The binary tree: everyone reports to one, and two report to everyone."""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx
import numpy as np

from byzbench.contracts import Topology


@dataclass(frozen=True)
class BinaryTree(Topology):
    """Agent k is linked to 2 k + 1 and 2 k + 2, as far as they exist: K - 1 links, diameter about 2 log2 K.

    Any liar but a leaf parts the honest, and the lower its number, the larger the part below it.
    """

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """The same at every round."""
        graph = nx.empty_graph(agents)
        graph.add_edges_from(((k - 1) // 2, k) for k in range(1, agents))
        return graph
