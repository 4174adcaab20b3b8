"""Attached Sybils: Byzantine agents that join a graph of honest agents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.core import FloatRange, Placement
from byzbench.errors import Undefined


@dataclass(frozen=True)
class Attach(Placement):
    """Placement that adds f Sybils, agents K - f .. K - 1, to a graph of the K - f honest agents.

    Each Sybil is linked to `links` honest agents, drawn from a random set of `targets` honest agents. The honest agents
    stay connected for any number of Sybils, so the influence of the Sybils depends on the number of their links.

    Source: Yu, Kaminsky, Gibbons, Flaxman 2006, SybilGuard, for attack edges as the measure; He, Karimireddy, Jaggi
    2022, arXiv 2202.01545, who add b Byzantine nodes to an honest graph.

    Attributes:
        links: the number of attack edges of each Sybil.
        targets: the number of honest agents that Sybils can be linked to; by default all.
        clique: link the Sybils to each other.

    Example:
        >>> graph = Attach(links=1).join(nx.complete_graph(3), 2, np.random.default_rng(0))
        >>> list(Attach()(graph, 2, np.random.default_rng(0)))
        [3, 4]
    """

    joins: ClassVar[bool] = True
    source: ClassVar[str] = "Yu et al. 2006, SIGCOMM; He, Karimireddy, Jaggi 2022, arXiv 2202.01545"
    links: Annotated[int, Field(ge=1, description="attack edges of each Sybil"), FloatRange(1, 8)] = 1
    targets: Annotated[
        int | None, Field(ge=1, description="honest agents that Sybils can be linked to; default: all")
    ] = None
    clique: Annotated[bool, Field(description="link the Sybils to each other")] = False

    def join(self, graph: nx.Graph, f: int, rng: np.random.Generator) -> nx.Graph:
        """Return a copy of the graph with f Sybils; in a directed graph every new link has both directions.

        Raises:
            Undefined: there are fewer targets than links of a Sybil.
        """
        honest = len(graph)
        num_targets = min(self.targets or honest, honest)
        if self.links > num_targets:
            raise Undefined(
                f"attach: links={self.links} needs at least as many honest agents to attach to, got {num_targets}"
            )
        joined = graph.copy()
        targets = rng.permutation(honest)[:num_targets]
        edges = [(int(t), s) for s in range(honest, honest + f) for t in rng.choice(targets, self.links, replace=False)]
        edges += [(a, b) for a in range(honest, honest + f) for b in range(a + 1, honest + f) if self.clique]
        joined.add_nodes_from(range(honest, honest + f))
        joined.add_edges_from(sorted(edges))
        if joined.is_directed():
            joined.add_edges_from((b, a) for a, b in sorted(edges))
        return joined

    def __call__(self, graph: nx.Graph, f: int, rng: np.random.Generator) -> Sequence[int]:
        """Return the agents that joined."""
        return list(range(len(graph) - f, len(graph)))
