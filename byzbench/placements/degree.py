"""Degree placement: the liars are those whom most agents hear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np

from byzbench.contracts import Placement
from byzbench.placements._ranked import agents_of, highest


@dataclass(frozen=True)
class Degree(Placement):
    """The f agents with the most links; of directed graphs, those with the most listeners.

    Hubs of a scale-free graph reach many; yet gossip with Metropolis' weights listens least to those with many links.
    """

    def __call__(self, graph: nx.Graph, f: int, rng: np.random.Generator) -> Sequence[int]:
        """Equals in random order."""
        return highest([len(graph.adj[agent]) for agent in range(agents_of(graph))], f, rng)
