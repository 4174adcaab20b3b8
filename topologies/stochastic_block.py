"""Stochastic block models: random graphs with communities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.core import FloatRange, Topology
from byzbench.geometry.graph_families import draw_connected, require_agents, split_evenly


@dataclass(frozen=True)
class StochasticBlock(Topology):
    """Random graph of equally large communities, with edge probabilities `inside` and `between` communities.

    The agents of a community have consecutive numbers. The graph is drawn again until it is connected.

    Source: Holland, Laskey, Leinhardt 1983, Stochastic blockmodels: first steps, Social Networks 5.

    Differs from the source in: the graph is conditioned to be connected.

    Attributes:
        blocks: the number of communities.
        inside: the probability of an edge within a community.
        between: the probability of an edge between two communities.
    """

    source: ClassVar[str] = "Holland, Laskey, Leinhardt 1983, Social Networks 5"
    blocks: Annotated[int, Field(ge=1, description="number of communities")] = 3
    inside: Annotated[
        float, Field(ge=0, le=1, description="edge probability within a community"), FloatRange(0.5, 1)
    ] = 0.8
    between: Annotated[
        float, Field(ge=0, le=1, description="edge probability between communities"), FloatRange(0.02, 0.5)
    ] = 0.1

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """Draw a graph; a generator in the same state gives the same graph."""
        require_agents("stochastic_block", agents, self.blocks)
        sizes = split_evenly(agents, self.blocks)
        probabilities = np.full((self.blocks, self.blocks), self.between)
        np.fill_diagonal(probabilities, self.inside)

        def draw(seed: int) -> nx.Graph:
            graph = nx.empty_graph(agents)
            graph.add_edges_from(nx.stochastic_block_model(sizes, probabilities.tolist(), seed=seed).edges)
            return graph

        name = f"stochastic_block: inside={self.inside:g}, between={self.between:g} on {agents} agents"
        return draw_connected(draw, rng, name, "give larger probabilities")
