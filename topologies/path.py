"""The path: a line of agents, who hear one neighbour on either side."""

from __future__ import annotations

from dataclasses import dataclass

import networkx as nx
import numpy as np

from byzbench.contracts import Topology


@dataclass(frozen=True)
class Path(Topology):
    """Agent k is linked to k - 1 and k + 1, the two at the ends to one: K - 1 links, diameter K - 1.

    Every agent but those at the ends is a cut: one liar among them parts the honest.
    """

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """The same at every round."""
        return nx.path_graph(agents)
