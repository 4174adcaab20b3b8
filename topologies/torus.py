"""The two-dimensional torus."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Annotated

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.core import Topology
from byzbench.errors import Undefined
from byzbench.geometry.graph_families import sort_graph


@dataclass(frozen=True)
class Torus(Topology):
    """Torus of K = r c agents in r >= 3 rows and c >= 3 columns, each linked to its four direct neighbours.

    The first and the last agent of every row and column are linked. The graph is vertex-transitive with degree 4.

    With `directed`, an agent receives only from the agent above it and the agent to its left.

    Attributes:
        rows: r; by default the largest divisor of K that is at most sqrt(K).
        directed: edges point down and to the right only.

    Example:
        >>> graph = Torus()(9, 0, np.random.default_rng(0))
        >>> sorted(graph[4])
        [1, 3, 5, 7]
    """

    rows: Annotated[int | None, Field(ge=3, description="number of rows; default: as square as possible")] = None
    directed: Annotated[bool, Field(description="edges point down and to the right only")] = False

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """Return the graph, which is the same in every round."""
        rows = self.rows or _rows(agents)
        if rows < 3 or agents % rows or agents // rows < 3:
            if self.rows:
                raise Undefined(f"torus: {agents} agents do not fill {rows} rows of at least 3 agents")
            larger = next(n for n in range(max(9, agents), 2 * agents + 10) if _rows(n) >= 3)
            raise Undefined(f"torus: {agents} agents fill no rows and columns of at least 3; {larger} would")
        columns = agents // rows
        graph = nx.empty_graph(agents, nx.DiGraph if self.directed else nx.Graph)
        for k in range(agents):
            row, column = divmod(k, columns)
            graph.add_edge(k, row * columns + (column + 1) % columns)
            graph.add_edge(k, (k + columns) % agents)
        return sort_graph(graph)


def _rows(agents: int) -> int:
    """Return the largest divisor of the number of agents that is at most its square root."""
    return next(rows for rows in range(isqrt(agents), 0, -1) if agents % rows == 0)
