"""The hypercube."""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx
import numpy as np

from byzbench.core import Topology
from byzbench.errors import Undefined
from byzbench.geometry.graph_families import sort_graph


@dataclass(frozen=True)
class Hypercube(Topology):
    """Hypercube of K = 2^m agents, in which two agents are linked if their numbers differ in one bit.

    Every agent has m = log2 K links. The diameter and the vertex connectivity are m. The graph is vertex-transitive, so
    the placement of Byzantine agents matters only by their positions relative to each other.
    """

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """Return the graph, which is the same in every round."""
        bits = agents.bit_length() - 1
        if agents != 1 << bits:
            raise Undefined(
                f"hypercube: the number of agents must be a power of 2, {1 << bits} or {2 << bits}; got {agents}"
            )
        graph = nx.empty_graph(agents)
        graph.add_edges_from((k, k ^ 1 << bit) for k in range(agents) for bit in range(bits))
        return sort_graph(graph)
