"""Maximal separation: the liars are far from each other, and every region has one."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import networkx as nx
import numpy as np

from byzbench.contracts import Placement
from byzbench.placements._ranked import agents_of


@dataclass(frozen=True)
class MaxSeparation(Placement):
    """The first liar sits anywhere; each further one as many hops from those before it as can be.

    So the regions around them, by breadth-first search, overlap little. The liars' reach is as even as their number
    allows: the opposite of an eclipse.

    Source: MaxSpAN-FL in Gabrielli, Tolomei's comparison; farthest-first traversal is Gonzalez 1985, whose least
    distance between seats is at least half of the best.

    Differs from the source in: it keeps the distance between seats large, rather than the overlap of regions small.
    """

    source: ClassVar[str] = "Gonzalez 1985, for the traversal"

    def __call__(self, graph: nx.Graph, f: int, rng: np.random.Generator) -> Sequence[int]:
        """Equals in random order."""
        order = rng.permutation(agents_of(graph))
        hops = np.full(len(graph), np.inf)
        seats: list[int] = []
        for _ in range(f):
            left = np.where(np.isin(order, seats), -1, hops[order])
            seats.append(int(order[np.argmax(left)]))
            _approach(graph, seats[-1], hops)
        return seats


def _approach(graph: nx.Graph, seat: int, hops: np.ndarray) -> None:
    """Lower everybody's number of hops to the nearest seat, now that there is one more."""
    hops[seat] = 0
    queue = deque([seat])
    while queue:
        node = queue.popleft()
        for other in graph.adj[node]:
            if hops[node] + 1 < hops[other]:
                hops[other] = hops[node] + 1
                queue.append(other)
