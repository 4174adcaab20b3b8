"""Random placement: the liars sit anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np

from byzbench.contracts import Placement
from byzbench.placements._ranked import agents_of


@dataclass(frozen=True)
class RandomPlacement(Placement):
    """f agents, uniformly without replacement. From the same stream, more liars include the fewer: f is comparable."""

    def __call__(self, graph: nx.Graph, f: int, rng: np.random.Generator) -> Sequence[int]:
        """The first f of one permutation of the agents."""
        return rng.permutation(agents_of(graph))[:f].tolist()
