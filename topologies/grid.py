"""The grid: agents in rows and columns, who hear those beside, above and below them."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt
from typing import Annotated

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.contracts import Topology
from byzbench.topologies._drawn import tidy


@dataclass(frozen=True)
class Grid(Topology):
    """Agent k sits in row k // c and column k % c of c columns, linked to its neighbours in its row and its column.

    The last row may be short. Two links at corners, three at sides, four inside: liars at the rim reach fewer.

    Attributes:
        columns: c; by default the ceiling of sqrt(K), for a square.
    """

    columns: Annotated[int | None, Field(ge=1, description="columns; default: as a square has")] = None

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """The same at every round."""
        columns = self.columns or ceil(sqrt(agents))
        graph = nx.empty_graph(agents)
        graph.add_edges_from((k, k + 1) for k in range(agents - 1) if (k + 1) % columns)
        graph.add_edges_from((k, k + columns) for k in range(agents - columns))
        return tidy(graph)
