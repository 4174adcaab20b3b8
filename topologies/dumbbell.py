"""The dumbbell: two cliques, and a bar of agents between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.contracts import Range, Topology
from byzbench.topologies._drawn import at_least, clique, tidy


@dataclass(frozen=True)
class Dumbbell(Topology):
    """Two cliques of (K - bar) / 2 agents, joined by a path of `bar` agents: one liar on it parts the honest.

    The first clique comes first, then the bar, then the second clique; of an odd rest the first has one more. Without a
    bar, the last agent of the first clique and the first of the second are linked.

    Attributes:
        bar: agents on the path.
    """

    bar: Annotated[int, Field(ge=0, description="agents between the cliques"), Range(0, 3)] = 1

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """The same at every round."""
        at_least(f"dumbbell: bar={self.bar}", agents, self.bar + 2)
        left = (agents - self.bar + 1) // 2
        graph = nx.empty_graph(agents)
        clique(graph, range(left))
        clique(graph, range(left + self.bar, agents))
        graph.add_edges_from((k, k + 1) for k in range(left - 1, left + self.bar))
        return tidy(graph)
