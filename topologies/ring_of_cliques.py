"""The ring of cliques: groups that know each other, and single links between the groups."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Annotated

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.contracts import Range, Topology
from byzbench.topologies._drawn import at_least, clique, shares, tidy


@dataclass(frozen=True)
class RingOfCliques(Topology):
    """Cliques of equal size, the last agent of each linked to the first of the next.

    Two liars in the right seats part it. Members of a clique have consecutive numbers; where sizes cannot be equal, the
    first cliques have one more.

    Attributes:
        cliques: how many.
    """

    cliques: Annotated[int, Field(ge=3, description="how many cliques"), Range(3, 10)] = 4

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """The same at every round."""
        at_least("ring_of_cliques", agents, self.cliques)
        graph, ends = nx.empty_graph(agents), [0, *accumulate(shares(agents, self.cliques))]
        for first, after in pairwise(ends):
            clique(graph, range(first, after))
            graph.add_edge(after - 1, after % agents)
        return tidy(graph)
