"""Local search that maximises the influence of Byzantine agents on gossip."""

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
from byzbench.placements.influence_greedy import InfluenceGreedy

_TOLERANCE = 1e-9


@dataclass(frozen=True)
class InfluenceSwap(Placement):
    """Placement of `influence_greedy`, improved by swaps of one Byzantine agent with one honest agent.

    The best swap is applied until no swap increases the influence Phi_T(W, A) of `influence_greedy`. So the influence
    is at least that of the greedy placement, and sometimes much larger.

    Source: Gabrielli, Tolomei, BPI, the swap algorithm.

    Differs from the source in: it starts from the greedy placement.

    Attributes:
        horizon: T, the number of rounds of gossip.
    """

    source: ClassVar[str] = "Gabrielli, Tolomei, Byzantine placement influence"
    horizon: Annotated[int, Field(ge=1, le=10_000, description="rounds of gossip")] = HORIZON

    def __call__(self, graph: nx.Graph, f: int, rng: np.random.Generator) -> Sequence[int]:
        """Return the f agents of the local optimum; ties are broken at random."""
        require_dense_size("influence_swap", graph)
        selected = list(InfluenceGreedy(self.horizon)(graph, f, rng))
        total = walks(matrix(agent_subgraph(graph)), self.horizon)
        influence = -1.0
        while selected:
            reduced = [selected[:k] + selected[k + 1 :] for k in range(f)]
            values = np.stack([with_one_more(total, others) for others in reduced])
            if values.max() <= influence + _TOLERANCE * abs(influence):
                break
            influence = values.max()
            (best,) = select_highest(values.ravel(), 1, rng)
            leaving, agent = divmod(best, len(total))
            selected = [*reduced[leaving], agent]
        return selected
