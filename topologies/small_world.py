"""Watts-Strogatz small-world graphs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.core import FloatRange, Topology
from byzbench.errors import Undefined
from byzbench.geometry.graph_families import draw_connected


@dataclass(frozen=True)
class SmallWorld(Topology):
    """Ring lattice in which each agent is linked to the k nearest, and each edge is rewired with probability p.

    At p = 0 shortest paths are long and clustering is high. At p = 1 the graph is nearly a random graph. A small p
    suffices for short paths.

    Source: Watts, Strogatz 1998, Collective dynamics of 'small-world' networks, Nature 393.

    Differs from the source in: the graph is conditioned to be connected.

    Attributes:
        degree: k, the number of lattice neighbours; even, with half of them on either side.
        p: the probability that an edge is rewired.
    """

    source: ClassVar[str] = "Watts, Strogatz 1998, Nature 393"
    degree: Annotated[int, Field(ge=2, multiple_of=2, description="neighbours on the ring; even"), FloatRange(2, 8)] = 4
    p: Annotated[float, Field(ge=0, le=1, description="probability that an edge is rewired"), FloatRange(0, 1)] = 0.1

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """Draw a graph; a generator in the same state gives the same graph."""
        if self.degree >= agents:
            raise Undefined(f"small_world: degree={self.degree} needs at least {self.degree + 1} agents, got {agents}")

        def draw(seed: int) -> nx.Graph:
            return nx.watts_strogatz_graph(agents, self.degree, self.p, seed)

        return draw_connected(
            draw, rng, f"small_world: degree={self.degree} on {agents} agents", "give a larger degree"
        )
