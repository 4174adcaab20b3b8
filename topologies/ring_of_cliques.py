"""The ring of cliques: complete subgraphs that are joined by single edges."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Annotated

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.core import FloatRange, Topology
from byzbench.geometry.graph_families import add_clique, require_agents, sort_graph, split_evenly


@dataclass(frozen=True)
class RingOfCliques(Topology):
    """Ring of equally large cliques, in which the last agent of each clique is linked to the first of the next.

    Two Byzantine agents can disconnect the honest agents. The members of a clique have consecutive numbers. If sizes
    cannot be equal, the first cliques have one member more.

    Attributes:
        cliques: the number of cliques.

    Example:
        >>> graph = RingOfCliques(cliques=3)(6, 0, np.random.default_rng(0))
        >>> list(graph.edges)
        [(0, 1), (0, 5), (1, 2), (2, 3), (3, 4), (4, 5)]
    """

    cliques: Annotated[int, Field(ge=3, description="number of cliques"), FloatRange(3, 10)] = 4

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """Return the graph, which is the same in every round."""
        require_agents("ring_of_cliques", agents, self.cliques)
        graph, boundaries = nx.empty_graph(agents), [0, *accumulate(split_evenly(agents, self.cliques))]
        for start, stop in pairwise(boundaries):
            add_clique(graph, range(start, stop))
            graph.add_edge(stop - 1, stop % agents)
        return sort_graph(graph)
