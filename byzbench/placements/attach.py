"""Attached Sybils: the liars come from outside, and are heard by whom they link to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.contracts import Placement, Range
from byzbench.errors import Undefined


@dataclass(frozen=True)
class Attach(Placement):
    """The graph is the honest agents' alone, K - f of them; f Sybils, agents K - f .. K - 1, attach themselves to it.

    Each has `links` links to honest agents, drawn from `targets` of them who are drawn first. So the honest stay
    connected, whatever the number of Sybils, and what matters is not how many they are but how many links they got.

    Source: Yu, Kaminsky, Gibbons, Flaxman 2006, SybilGuard, for the measure: attack edges; He, Karimireddy, Jaggi 2022,
    arXiv 2202.01545, add b Byzantine nodes to an honest graph.

    Attributes:
        links: attack edges of each Sybil.
        targets: honest agents who have any; by default all can.
        clique: whether the Sybils are linked to each other.
    """

    joins: ClassVar[bool] = True
    source: ClassVar[str] = "Yu et al. 2006, SIGCOMM; He, Karimireddy, Jaggi 2022, arXiv 2202.01545"
    links: Annotated[int, Field(ge=1, description="attack edges of each Sybil"), Range(1, 8)] = 1
    targets: Annotated[int | None, Field(ge=1, description="honest agents who have any; default: all can")] = None
    clique: Annotated[bool, Field(description="whether Sybils are linked to each other")] = False

    def join(self, graph: nx.Graph, f: int, rng: np.random.Generator) -> nx.Graph:
        """A copy with f more agents; where links have a direction, both hear each other."""
        honest = len(graph)
        few = min(self.targets or honest, honest)
        if self.links > few:
            raise Undefined(f"attach: links={self.links} needs at least as many honest agents to attach to, got {few}")
        joined = graph.copy()
        targets = rng.permutation(honest)[:few]
        edges = [(int(t), s) for s in range(honest, honest + f) for t in rng.choice(targets, self.links, replace=False)]
        edges += [(a, b) for a in range(honest, honest + f) for b in range(a + 1, honest + f) if self.clique]
        joined.add_nodes_from(range(honest, honest + f))
        joined.add_edges_from(sorted(edges))
        if joined.is_directed():
            joined.add_edges_from((b, a) for a, b in sorted(edges))
        return joined

    def __call__(self, graph: nx.Graph, f: int, rng: np.random.Generator) -> Sequence[int]:
        """Those who joined."""
        return list(range(len(graph) - f, len(graph)))
