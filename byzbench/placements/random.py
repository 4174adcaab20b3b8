"""Uniformly random placement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np

from byzbench.core import Placement
from byzbench.core.ranked_placement import count_agents


@dataclass(frozen=True)
class RandomPlacement(Placement):
    """Placement on f agents that are drawn uniformly without replacement.

    With the same stream, the agents for a larger f include those for a smaller f, so results can be compared across f.
    """

    def __call__(self, graph: nx.Graph, f: int, rng: np.random.Generator) -> Sequence[int]:
        """Return the first f agents of a random permutation of all agents."""
        return rng.permutation(count_agents(graph))[:f].tolist()
