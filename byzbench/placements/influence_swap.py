"""Influence by swaps: liars move as long as one move makes gossip carry more of them."""

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
from byzbench.placements.influence_greedy import InfluenceGreedy

_SLACK = 1e-9


@dataclass(frozen=True)
class InfluenceSwap(Placement):
    """The seats of `influence_greedy`, improved: of all moves of one liar to an honest agent's seat the best is made.

    Until none makes the influence Phi_T(W, A) larger; see there. Never less influence, and sometimes much more.

    Source: Gabrielli, Tolomei, BPI, the swap algorithm.

    Differs from the source in: it starts from the greedy seats.

    Attributes:
        horizon: T.
    """

    source: ClassVar[str] = "Gabrielli, Tolomei, Byzantine placement influence"
    horizon: Annotated[int, Field(ge=1, le=10_000, description="rounds of gossip")] = HORIZON

    def __call__(self, graph: nx.Graph, f: int, rng: np.random.Generator) -> Sequence[int]:
        """Equals in random order."""
        small_enough("influence_swap", graph)
        seats = list(InfluenceGreedy(self.horizon)(graph, f, rng))
        total = walks(matrix(only_agents(graph)), self.horizon)
        reached = -1.0
        while seats:
            stay = [seats[:k] + seats[k + 1 :] for k in range(f)]
            values = np.stack([with_one_more(total, others) for others in stay])
            if values.max() <= reached + _SLACK * abs(reached):
                break
            reached = values.max()
            (best,) = highest(values.ravel(), 1, rng)
            leaving, agent = divmod(best, len(total))
            seats = [*stay[leaving], agent]
        return seats
