"""Erdős-Rényi graphs: random graphs with independent edges of equal probability."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Annotated, ClassVar

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.core import FloatRange, Topology
from byzbench.geometry.graph_families import draw_connected


@dataclass(frozen=True)
class ErdosRenyi(Topology):
    """Random graph in which each of the K (K - 1) / 2 edges exists independently with probability p.

    The graph is drawn again until it is connected. For large K, almost all graphs are disconnected below p = ln K / K
    and almost all are connected above it. The mean degree is p (K - 1).

    With `directed`, each of the K (K - 1) directed edges is drawn, until the graph is strongly connected.

    Source: Gilbert 1959, Random graphs; Erdős, Rényi 1959, On random graphs I.

    Differs from the source in: the graph is conditioned to be connected.

    Attributes:
        p: the probability of an edge; by default twice the threshold of connectivity, 2 ln K / K.
        directed: draw each direction of a link independently.
    """

    source: ClassVar[str] = "Gilbert 1959; Erdős, Rényi 1959"
    p: Annotated[
        float | None, Field(gt=0, le=1, description="edge probability; default: 2 ln K / K"), FloatRange(0.2, 1)
    ] = None
    directed: Annotated[bool, Field(description="draw each direction of a link independently")] = False

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """Draw a graph; a generator in the same state gives the same graph."""
        p = min(1.0, 2 * log(agents) / agents) if self.p is None else self.p

        def draw(seed: int) -> nx.Graph:
            return nx.fast_gnp_random_graph(agents, p, seed, directed=self.directed)

        return draw_connected(draw, rng, f"erdos_renyi: p={p:.3g} on {agents} agents", "give a larger p")
