"""Greedy influence: each liar sits where it adds most to what gossip carries of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.contracts import Placement
from byzbench.geometry.influence import HORIZON, walks, with_one_more
from byzbench.geometry.mixing import matrix
from byzbench.placements._ranked import highest, only_agents, small_enough


@dataclass(frozen=True)
class InfluenceGreedy(Placement):
    """Liars one by one, each where the Byzantine placement influence becomes largest.

        Phi_T(W, A) = (1/|H|) 1_H' (W + W^2 + ... + W^T) 1_A

    A the liars, H the honest, W [K, K] Metropolis' weights of gossip on the graph: the weight of liars in T rounds of
    an honest agent's gossip.

    Source: Gabrielli, Tolomei, BPI, the greedy algorithm.

    Attributes:
        horizon: T.
    """

    source: ClassVar[str] = "Gabrielli, Tolomei, Byzantine placement influence"
    horizon: Annotated[int, Field(ge=1, le=10_000, description="rounds of gossip")] = HORIZON

    def __call__(self, graph: nx.Graph, f: int, rng: np.random.Generator) -> Sequence[int]:
        """Equals in random order."""
        small_enough("influence_greedy", graph)
        total = walks(matrix(only_agents(graph)), self.horizon)
        seats: list[int] = []
        for _ in range(f):
            seats += highest(with_one_more(total, seats), 1, rng)
        return seats
