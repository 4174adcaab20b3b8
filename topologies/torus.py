"""The torus: a grid without rims."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Annotated

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.contracts import Topology
from byzbench.errors import Undefined
from byzbench.topologies._drawn import tidy


@dataclass(frozen=True)
class Torus(Topology):
    """Agents in r rows of c, each linked to the four around it; rows and columns close to rings. K = r c, r, c >= 3.

    Everybody has four links, and all seats are alike.

    directed: each hears only the one above it and the one to its left.

    Attributes:
        rows: r; by default the divisor of K that is nearest to sqrt(K) from below.
    """

    rows: Annotated[int | None, Field(ge=3, description="rows; default: as square as can be")] = None
    directed: Annotated[bool, Field(description="links go down and to the right only")] = False

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """The same at every round."""
        rows = self.rows or _rows(agents)
        if rows < 3 or agents % rows or agents // rows < 3:
            if self.rows:
                raise Undefined(f"torus: {agents} agents do not fill {rows} rows of at least 3")
            near = next(n for n in range(max(9, agents), 2 * agents + 10) if _rows(n) >= 3)
            raise Undefined(f"torus: {agents} agents fill no rows and columns of at least 3; {near} would")
        columns = agents // rows
        graph = nx.empty_graph(agents, nx.DiGraph if self.directed else nx.Graph)
        for k in range(agents):
            row, column = divmod(k, columns)
            graph.add_edge(k, row * columns + (column + 1) % columns)
            graph.add_edge(k, (k + columns) % agents)
        return tidy(graph)


def _rows(agents: int) -> int:
    return next(rows for rows in range(isqrt(agents), 0, -1) if agents % rows == 0)
