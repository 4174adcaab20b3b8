"""Barabási-Albert graphs: random graphs by preferential attachment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.core import FloatRange, Topology
from byzbench.geometry.graph_families import require_agents, sort_graph


@dataclass(frozen=True)
class BarabasiAlbert(Topology):
    """Random graph in which each new agent is linked to m existing agents, with probability proportional to degree.

    Degrees follow a power law with exponent 3. Most shortest paths pass through a few hubs: a Byzantine hub sends to
    many agents, and removing a hub can disconnect many. The graph is connected by construction. It grows from a star of
    m + 1 agents in the order of agent numbers, so low numbers tend to be hubs, and the placement `first` selects them.

    Source: Barabási, Albert 1999, Emergence of scaling in random networks, Science 286.

    Attributes:
        links: m, the number of links that each new agent adds.
    """

    source: ClassVar[str] = "Barabási, Albert 1999, Science 286"
    links: Annotated[int, Field(ge=1, description="links that each new agent adds"), FloatRange(1, 5)] = 2

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """Draw a graph; a generator in the same state gives the same graph."""
        require_agents(f"barabasi_albert: links={self.links}", agents, self.links + 1)
        return sort_graph(nx.barabasi_albert_graph(agents, self.links, int(rng.integers(2**32))))
