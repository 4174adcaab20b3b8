"""Betweenness placement: the liars sit where shortest paths meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.contracts import Placement
from byzbench.placements._ranked import agents_of, highest


@dataclass(frozen=True)
class Betweenness(Placement):
    """The f agents of the highest betweenness, the share of shortest paths between others that lead through an agent.

        b(v) = sum over s, t other than v of (shortest paths from s to t through v) / (shortest paths from s to t)

    Source: Freeman 1977, A set of measures of centrality based on betweenness; computed as in Brandes 2001.

    Attributes:
        pivots: sources s that are looked at; of more agents than that, so many are drawn at random.
    """

    source: ClassVar[str] = "Freeman 1977; Brandes 2001"
    pivots: Annotated[int, Field(ge=1, description="sources of paths; drawn, if there are more agents")] = 500

    def __call__(self, graph: nx.Graph, f: int, rng: np.random.Generator) -> Sequence[int]:
        """Equals in random order."""
        few = None if len(graph) <= self.pivots else self.pivots
        through = nx.betweenness_centrality(graph, few, seed=int(rng.integers(2**32)) if few else None)
        return highest([through[agent] for agent in range(agents_of(graph))], f, rng)
