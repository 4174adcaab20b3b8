"""Two worlds: two cliques with a few edges from every agent to the other clique."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.core import FloatRange, Topology
from byzbench.errors import Undefined
from byzbench.geometry.graph_families import add_clique, require_agents, sort_graph


@dataclass(frozen=True)
class TwoWorlds(Topology):
    """Two cliques of m = K / 2 agents, where agent i of one is linked to i, ..., i + k - 1 modulo m of the other.

    Every agent has most of its neighbours in its own clique and k in the other. Byzantine agents that are a minority in
    every neighbourhood can keep the two cliques from agreeing. If K is odd, the first clique has one agent more, and
    some agents of the second have k + 1 links to the first.

    Attributes:
        links: k, the number of links of each agent to the other clique; at most m.

    Example:
        >>> list(TwoWorlds(links=1)(4, 0, np.random.default_rng(0)).edges)
        [(0, 1), (0, 2), (1, 3), (2, 3)]
    """

    links: Annotated[int, Field(ge=1, description="links of each agent to the other clique"), FloatRange(1, 4)] = 1

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """Return the graph, which is the same in every round."""
        require_agents("two_worlds", agents, 2)
        first, second = agents - agents // 2, agents // 2
        if self.links > second:
            raise Undefined(f"two_worlds: links={self.links} needs at least {2 * self.links} agents, got {agents}")
        graph = nx.empty_graph(agents)
        add_clique(graph, range(first))
        add_clique(graph, range(first, agents))
        graph.add_edges_from((i, first + (i + j) % second) for i in range(first) for j in range(self.links))
        return sort_graph(graph)
