"""The star, around a trusted server or around an agent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.core import Topology


@dataclass(frozen=True)
class Star(Topology):
    """Star whose centre is a trusted server, as in federated learning, or one of the agents.

    - hub=server: agents 0 .. K-1 are the leaves. The server is node K, which `graph.graph["server"]` stores.
    - hub=agent: agent 0 is the centre of the other K - 1 agents. It is not trusted and can be Byzantine.

    Attributes:
        hub: what the centre is.

    Example:
        >>> graph = Star()(3, 0, np.random.default_rng(0))
        >>> graph.graph["server"], list(graph.edges)
        (3, [(0, 3), (1, 3), (2, 3)])
    """

    hub: Annotated[Literal["server", "agent"], Field(description="centre: a trusted server, or agent 0")] = "server"

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """Return the graph, which is the same in every round."""
        if self.hub == "agent":
            return nx.star_graph(agents - 1)
        graph = nx.Graph(server=agents)
        graph.add_nodes_from(range(agents + 1))
        graph.add_edges_from((agent, agents) for agent in range(agents))
        return graph
