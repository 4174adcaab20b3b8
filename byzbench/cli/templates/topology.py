"""A family of communication graphs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.core import Topology
from byzbench.geometry.graph_families import require_agents


@dataclass(frozen=True)
class NewComponent(Topology):
    """Lattice on a ring, in which each agent is linked to the next `reach` agents and to the previous ones.

    Attributes:
        reach: the number of neighbours on each side.

    Example:
        >>> NewComponent(reach=2)(7, 0, np.random.default_rng(0)).degree[0]
        4
    """

    reach: Annotated[int, Field(ge=1, description="neighbours on each side")] = 2

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """Return the graph, which is the same in every round."""
        # Change: the graph, whose nodes are 0 .. agents - 1. Draw from `rng` only. A graph that differs between rounds
        # needs the class attribute `varies = True`.
        require_agents("NAME", agents, 2 * self.reach + 1)
        return nx.circulant_graph(agents, range(1, self.reach + 1))
