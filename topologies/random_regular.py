"""Random regular graphs: random graphs in which all degrees are equal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.core import Topology
from byzbench.errors import Undefined
from byzbench.geometry.graph_families import draw_connected


@dataclass(frozen=True)
class RandomRegular(Topology):
    """Random connected graph in which all K agents have the same degree. It is sparse and mixes fast.

    With a degree of at least 3, almost every such graph is connected. Others are drawn again, up to 100 times.

    Source: Steger, Wormald 1999, Generating random regular graphs quickly; nearly uniform by Kim, Vu 2003.

    Differs from the source in: a degree above K/2 is drawn as the complement of a sparse graph, because the pairing of
    the source almost never completes a dense graph.

    Attributes:
        degree: the number of links of each agent.
    """

    source: ClassVar[str] = "Steger, Wormald 1999; Kim, Vu 2003"
    degree: Annotated[int, Field(ge=1, description="links of each agent")] = 4

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """Draw a graph; a generator in the same state gives the same graph."""
        degree = self.degree
        if degree >= agents:
            raise Undefined(f"random_regular: degree={degree} needs at least {degree + 1} agents, got {agents}")
        if degree * agents % 2:
            raise Undefined(
                f"random_regular: degree={degree} times {agents} agents is odd; give an even degree or number of agents"
            )
        dense = degree > agents // 2

        def draw(seed: int) -> nx.Graph:
            sparse = nx.random_regular_graph(agents - 1 - degree if dense else degree, agents, seed)
            return nx.complement(sparse) if dense else sparse

        name = f"random_regular: degree={degree} on {agents} agents"
        return draw_connected(draw, rng, name, "give a larger degree")
