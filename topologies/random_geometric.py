"""Random geometric graphs: random points in a square, linked if they are close."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, sqrt
from typing import Annotated, ClassVar

import networkx as nx
import numpy as np
from pydantic import Field
from scipy.spatial import cKDTree

from byzbench.core import FloatRange, Topology
from byzbench.geometry.graph_families import derive_generator, draw_connected


@dataclass(frozen=True)
class RandomGeometric(Topology):
    """Random graph of K uniform points in the unit square, linked if their distance is at most `radius`.

    It models sensors, robots or radios. Shortest paths are long, clustering is high and degrees vary, so the effect of
    one Byzantine agent is local. The graph is drawn again until it is connected. Positions are stored as the node
    attribute `pos`.

    Source: Gilbert 1961, Random plane networks; Gupta, Kumar 1998, who show that the threshold of connectivity is
    pi radius^2 = ln K / K.

    Differs from the source in: the graph is conditioned to be connected.

    Attributes:
        radius: the largest distance of linked agents; by default sqrt(ln K / K), somewhat above the threshold.
    """

    source: ClassVar[str] = "Gilbert 1961; Gupta, Kumar 1998"
    radius: Annotated[
        float | None,
        Field(gt=0, le=1.5, description="largest distance of a link; default: sqrt(ln K / K)"),
        FloatRange(0.2, 1),
    ] = None

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """Draw a graph; a generator in the same state gives the same graph."""
        radius = sqrt(max(log(agents), 1) / agents) if self.radius is None else self.radius

        def draw(seed: int) -> nx.Graph:
            points = derive_generator(seed, 0).random((agents, 2))
            graph = nx.Graph()
            graph.add_nodes_from((k, {"pos": tuple(point)}) for k, point in enumerate(points.tolist()))
            graph.add_edges_from(cKDTree(points).query_pairs(radius))
            return graph

        return draw_connected(
            draw, rng, f"random_geometric: radius={radius:.3g} on {agents} agents", "give a larger radius"
        )
