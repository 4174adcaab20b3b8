"""Placement by eigenvector centrality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import networkx as nx
import numpy as np

from byzbench.core import Placement
from byzbench.core.ranked_placement import count_agents, require_dense_size, select_highest


@dataclass(frozen=True)
class Eigenvector(Placement):
    """Placement on the f agents with the highest eigenvector centrality x.

        lambda x_j = sum of x_i over the receivers i of j

    lambda is the largest eigenvalue of the adjacency matrix. High centralities concentrate in one dense region, so all
    Byzantine agents are placed there.

    Source: Bonacich 1972, Factoring and weighting approaches to status scores and clique identification.
    """

    source: ClassVar[str] = "Bonacich 1972"

    def __call__(self, graph: nx.Graph, f: int, rng: np.random.Generator) -> Sequence[int]:
        """Return the f agents with the highest centrality; ties are broken at random."""
        require_dense_size("eigenvector", graph)
        adjacency = nx.to_numpy_array(graph, weight=None)
        values, vectors = np.linalg.eig(adjacency) if graph.is_directed() else np.linalg.eigh(adjacency)
        leading = np.abs(vectors[:, np.argmax(values.real)])
        return select_highest(leading[: count_agents(graph)], f, rng)
