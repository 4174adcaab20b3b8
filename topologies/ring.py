"""The ring: everyone hears two neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.contracts import Topology
from byzbench.topologies._drawn import at_least


@dataclass(frozen=True)
class Ring(Topology):
    """Agent k is linked to k - 1 and k + 1 modulo K: K links, diameter floor(K / 2), the slowest mixing there is.

    directed: k + 1 hears k, and nobody else.
    """

    directed: Annotated[bool, Field(description="whether everyone hears only the one before")] = False

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """The same at every round."""
        at_least("ring", agents, 3)
        return nx.cycle_graph(agents, nx.DiGraph if self.directed else nx.Graph)
