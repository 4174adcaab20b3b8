"""Placement by degree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np

from byzbench.core import Placement
from byzbench.core.ranked_placement import count_agents, select_highest


@dataclass(frozen=True)
class Degree(Placement):
    """Placement on the f agents with the highest degree, or the highest out-degree in a directed graph.

    Hubs of a scale-free graph send to many agents. However, gossip with Metropolis weights gives the smallest weights
    to agents of high degree.

    Example:
        >>> Degree()(nx.star_graph(4), 1, np.random.default_rng(0))
        [0]
    """

    def __call__(self, graph: nx.Graph, f: int, rng: np.random.Generator) -> Sequence[int]:
        """Return the f agents with the most receivers; ties are broken at random."""
        return select_highest([len(graph.adj[agent]) for agent in range(count_agents(graph))], f, rng)
