"""Placement of Byzantine agents far from each other."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import networkx as nx
import numpy as np

from byzbench.core import Placement
from byzbench.core.ranked_placement import count_agents


@dataclass(frozen=True)
class MaxSeparation(Placement):
    """Placement by farthest-first traversal: each Byzantine agent is as many hops as possible from the earlier ones.

    The first one is drawn uniformly. The breadth-first regions around the Byzantine agents overlap little, so they are
    spread over the whole graph, which is the opposite of an eclipse.

    Source: MaxSpAN-FL in the comparison of Gabrielli, Tolomei; farthest-first traversal: Gonzalez 1985, whose smallest
    distance between selected agents is at least half of the optimum.

    Differs from the source in: it maximises the distance between selected agents instead of minimising the overlap of
    their regions.
    """

    source: ClassVar[str] = "Gonzalez 1985, for the traversal"

    def __call__(self, graph: nx.Graph, f: int, rng: np.random.Generator) -> Sequence[int]:
        """Return f agents that are far from each other; ties are broken at random."""
        order = rng.permutation(count_agents(graph))
        hops = np.full(len(graph), np.inf)
        selected: list[int] = []
        for _ in range(f):
            distances = np.where(np.isin(order, selected), -1, hops[order])
            selected.append(int(order[np.argmax(distances)]))
            _lower_distances(graph, selected[-1], hops)
        return selected


def _lower_distances(graph: nx.Graph, source: int, hops: np.ndarray) -> None:
    """Lower in place each agent's number of hops to the nearest selected agent, given a new one."""
    hops[source] = 0
    queue = deque([source])
    while queue:
        node = queue.popleft()
        for other in graph.adj[node]:
            if hops[node] + 1 < hops[other]:
                hops[other] = hops[node] + 1
                queue.append(other)
