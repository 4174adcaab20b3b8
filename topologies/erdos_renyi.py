"""Erdős-Rényi graphs: every link is there with the same probability."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Annotated, ClassVar

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.contracts import Range, Topology
from byzbench.topologies._drawn import connected


@dataclass(frozen=True)
class ErdosRenyi(Topology):
    """Each of the K (K - 1) / 2 links exists with probability p, independently; drawn again until it is connected.

    Below p = ln K / K such a graph is nearly always in pieces, above it nearly always whole. Degrees scatter around
    p (K - 1).

    directed: each of K (K - 1) directed links, and the graph is strongly connected.

    Source: Gilbert 1959, Random graphs; Erdős, Rényi 1959, On random graphs I.

    Differs from the source in: the graph is conditioned to be connected.

    Attributes:
        p: the probability; by default twice the threshold, 2 ln K / K.
    """

    source: ClassVar[str] = "Gilbert 1959; Erdős, Rényi 1959"
    p: Annotated[float | None, Field(gt=0, le=1, description="of a link; default: 2 ln K / K"), Range(0.2, 1)] = None
    directed: Annotated[bool, Field(description="whether either direction is drawn for itself")] = False

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """Drawn from rng, afresh at each call."""
        p = min(1.0, 2 * log(agents) / agents) if self.p is None else self.p

        def draw(seed: int) -> nx.Graph:
            return nx.fast_gnp_random_graph(agents, p, seed, directed=self.directed)

        return connected(draw, rng, f"erdos_renyi: p={p:.3g} on {agents} agents", "give a larger p")
