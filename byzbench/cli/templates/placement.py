"""A placement of the Byzantine agents in the graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np

from byzbench.core import Placement
from byzbench.core.ranked_placement import count_agents, select_highest


@dataclass(frozen=True)
class NewComponent(Placement):
    """Placement on the f agents with the lowest degree; ties are broken at random.

    Example:
        >>> NewComponent()(nx.path_graph([1, 0, 2]), 1, np.random.default_rng(0)) in ([1], [2])
        True
    """

    def __call__(self, graph: nx.Graph, f: int, rng: np.random.Generator) -> Sequence[int]:
        """Return the agents with the fewest receivers."""
        # Change: the score of each agent; those with the highest scores are Byzantine. A server never is.
        return select_highest([-len(graph.adj[agent]) for agent in range(count_agents(graph))], f, rng)
