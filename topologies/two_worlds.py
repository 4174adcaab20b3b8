"""Two worlds: two cliques, and a few links from everybody to the other side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.contracts import Range, Topology
from byzbench.errors import Undefined
from byzbench.topologies._drawn import at_least, clique, tidy


@dataclass(frozen=True)
class TwoWorlds(Topology):
    """Two cliques of m = K / 2 agents; agent i of one is linked to i, i + 1, ..., i + k - 1 modulo m of the other.

    Everybody has a majority at home and k links abroad: liars who are a minority everywhere can hold two worlds apart.
    Of an odd number the first world has one more, and some agents of the second k + 1 links.

    Attributes:
        links: k, at most m.
    """

    links: Annotated[int, Field(ge=1, description="links of each to the other world"), Range(1, 4)] = 1

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """The same at every round."""
        at_least("two_worlds", agents, 2)
        first, second = agents - agents // 2, agents // 2
        if self.links > second:
            raise Undefined(f"two_worlds: links={self.links} needs at least {2 * self.links} agents, got {agents}")
        graph = nx.empty_graph(agents)
        clique(graph, range(first))
        clique(graph, range(first, agents))
        graph.add_edges_from((i, first + (i + j) % second) for i in range(first) for j in range(self.links))
        return tidy(graph)
