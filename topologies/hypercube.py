"""The hypercube: agents are linked if their numbers differ in one bit."""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx
import numpy as np

from byzbench.contracts import Topology
from byzbench.errors import Undefined
from byzbench.topologies._drawn import tidy


@dataclass(frozen=True)
class Hypercube(Topology):
    """K = 2^m agents with m = log2 K links each: diameter m, vertex connectivity m, and all seats are alike."""

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """The same at every round."""
        bits = agents.bit_length() - 1
        if agents != 1 << bits:
            raise Undefined(
                f"hypercube: the number of agents is a power of 2, {1 << bits} or {2 << bits}; got {agents}"
            )
        graph = nx.empty_graph(agents)
        graph.add_edges_from((k, k ^ 1 << bit) for k in range(agents) for bit in range(bits))
        return tidy(graph)
