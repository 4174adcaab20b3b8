"""The two-dimensional grid."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt
from typing import Annotated

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.core import Topology
from byzbench.geometry.graph_families import sort_graph


@dataclass(frozen=True)
class Grid(Topology):
    """Grid of c columns, in which agent k has row k // c and column k % c and is linked to its direct neighbours.

    The last row may be short. Agents have two links in a corner, three at a side and four inside, so a Byzantine agent
    at the boundary sends to fewer agents.

    Attributes:
        columns: c; by default the ceiling of sqrt(K), which makes the grid nearly square.

    Example:
        >>> list(Grid(columns=3)(5, 0, np.random.default_rng(0)).edges)
        [(0, 1), (0, 3), (1, 2), (1, 4), (3, 4)]
    """

    columns: Annotated[int | None, Field(ge=1, description="number of columns; default: sqrt(K), rounded up")] = None

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """Return the graph, which is the same in every round."""
        columns = self.columns or ceil(sqrt(agents))
        graph = nx.empty_graph(agents)
        graph.add_edges_from((k, k + 1) for k in range(agents - 1) if (k + 1) % columns)
        graph.add_edges_from((k, k + columns) for k in range(agents - columns))
        return sort_graph(graph)
