"""The dumbbell graph: two cliques that are joined by a path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.core import FloatRange, Topology
from byzbench.geometry.graph_families import add_clique, require_agents, sort_graph


@dataclass(frozen=True)
class Dumbbell(Topology):
    """Two cliques of (K - bar) / 2 agents each, joined by a path of `bar` agents.

    One Byzantine agent on the path disconnects the honest agents. Agents are numbered in the order first clique, path,
    second clique. If K - bar is odd, the first clique has one agent more. With bar = 0, the last agent of the first
    clique is linked to the first agent of the second.

    Attributes:
        bar: the number of agents on the path.

    Example:
        >>> list(Dumbbell(bar=1)(5, 0, np.random.default_rng(0)).edges)
        [(0, 1), (1, 2), (2, 3), (3, 4)]
    """

    bar: Annotated[int, Field(ge=0, description="agents on the path between the cliques"), FloatRange(0, 3)] = 1

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """Return the graph, which is the same in every round."""
        require_agents(f"dumbbell: bar={self.bar}", agents, self.bar + 2)
        first_size = (agents - self.bar + 1) // 2
        graph = nx.empty_graph(agents)
        add_clique(graph, range(first_size))
        add_clique(graph, range(first_size + self.bar, agents))
        graph.add_edges_from((k, k + 1) for k in range(first_size - 1, first_size + self.bar))
        return sort_graph(graph)
