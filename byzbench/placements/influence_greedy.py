"""Greedy maximisation of the influence of Byzantine agents on gossip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.core import Placement
from byzbench.core.ranked_placement import agent_subgraph, require_dense_size, select_highest
from byzbench.geometry.influence import HORIZON, walks, with_one_more
from byzbench.geometry.mixing import matrix


@dataclass(frozen=True)
class InfluenceGreedy(Placement):
    """Placement of one Byzantine agent after the other, each where the placement influence Phi_T becomes largest.

        Phi_T(W, A) = (1/|H|) 1_H' (W + W^2 + ... + W^T) 1_A

    A are the Byzantine agents, H the honest agents and W [K, K] the Metropolis weights of the graph. Phi_T is the total
    weight of Byzantine agents in T rounds of gossip of an honest agent, on average.

    Source: Gabrielli, Tolomei, BPI, the greedy algorithm.

    Attributes:
        horizon: T, the number of rounds of gossip.
    """

    source: ClassVar[str] = "Gabrielli, Tolomei, Byzantine placement influence"
    horizon: Annotated[int, Field(ge=1, le=10_000, description="rounds of gossip")] = HORIZON

    def __call__(self, graph: nx.Graph, f: int, rng: np.random.Generator) -> Sequence[int]:
        """Return the f agents of the greedy selection; ties are broken at random."""
        require_dense_size("influence_greedy", graph)
        total = walks(matrix(agent_subgraph(graph)), self.horizon)
        selected: list[int] = []
        for _ in range(f):
            selected += select_highest(with_one_more(total, selected), 1, rng)
        return selected
