"""Random geometric graphs: agents somewhere in a square hear those within reach."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, sqrt
from typing import Annotated, ClassVar

import networkx as nx
import numpy as np
from pydantic import Field
from scipy.spatial import cKDTree

from byzbench.contracts import Range, Topology
from byzbench.topologies._drawn import connected, stream


@dataclass(frozen=True)
class RandomGeometric(Topology):
    """K points, uniform in the unit square, linked where they are at most `radius` apart: sensors, robots, radios.

    Paths are long, neighbours of an agent are neighbours of each other, and degrees vary: one liar matters to a region.
    Drawn again until connected; positions are kept at the nodes as `pos`.

    Source: Gilbert 1961, Random plane networks; Gupta, Kumar 1998, who show that the threshold of connectivity is
    pi radius^2 = ln K / K.

    Differs from the source in: the graph is conditioned to be connected.

    Attributes:
        radius: the reach; by default sqrt(ln K / K), somewhat above the threshold.
    """

    source: ClassVar[str] = "Gilbert 1961; Gupta, Kumar 1998"
    radius: Annotated[
        float | None, Field(gt=0, le=1.5, description="the reach; default: sqrt(ln K / K)"), Range(0.2, 1)
    ] = None

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """Drawn from rng, afresh at each call."""
        radius = sqrt(max(log(agents), 1) / agents) if self.radius is None else self.radius

        def draw(seed: int) -> nx.Graph:
            points = stream(seed, 0).random((agents, 2))
            graph = nx.Graph()
            graph.add_nodes_from((k, {"pos": tuple(point)}) for k, point in enumerate(points.tolist()))
            graph.add_edges_from(cKDTree(points).query_pairs(radius))
            return graph

        return connected(draw, rng, f"random_geometric: radius={radius:.3g} on {agents} agents", "give a larger radius")
