"""Placement by betweenness centrality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.core import Placement
from byzbench.core.ranked_placement import count_agents, select_highest


@dataclass(frozen=True)
class Betweenness(Placement):
    """Placement on the f agents with the highest betweenness centrality.

        b(v) = sum over s, t other than v of (shortest paths from s to t through v) / (shortest paths from s to t)

    Source: Freeman 1977, A set of measures of centrality based on betweenness; computed as in Brandes 2001.

    Attributes:
        pivots: the largest number of sources s; if there are more agents, this many are drawn at random.

    Example:
        >>> Betweenness()(nx.path_graph(5), 1, np.random.default_rng(0))
        [2]
    """

    source: ClassVar[str] = "Freeman 1977; Brandes 2001"
    pivots: Annotated[
        int, Field(ge=1, description="largest number of path sources; drawn at random if there are more agents")
    ] = 500

    def __call__(self, graph: nx.Graph, f: int, rng: np.random.Generator) -> Sequence[int]:
        """Return the f agents with the highest betweenness; ties are broken at random."""
        num_pivots = None if len(graph) <= self.pivots else self.pivots
        betweenness = nx.betweenness_centrality(
            graph, num_pivots, seed=int(rng.integers(2**32)) if num_pivots else None
        )
        return select_highest([betweenness[agent] for agent in range(count_agents(graph))], f, rng)
