"""Minimal cut: the liars sit between two halves of the graph."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import networkx as nx
import numpy as np

from byzbench.contracts import Placement
from byzbench.geometry.graphs import laplacian_spectrum
from byzbench.placements._ranked import agents_of, highest, only_agents, small_enough

_EXACT = 200


@dataclass(frozen=True)
class MinCut(Placement):
    """The liars part the honest agents if f of them can, and as evenly as the cuts below allow.

    Two cuts are tried: the fewest agents that cover all links between the two sides of the sparsest cut, which
    minimises links cut / agents on the smaller side, among those that sweeps along the Laplacian's second and third
    eigenvectors, their sum and their difference find; and a smallest vertex cut. Of those with at most f agents, the
    one that leaves most honest agents outside the largest part is taken, and each further liar has the highest
    betweenness in what is then the largest part. Where both are too large, f agents cover as many links of the sparsest
    cut as they can, one by one.

    Source: Fiedler 1973, Algebraic connectivity of graphs, for the sweep; Kőnig 1931, for the cover; Menger 1927.

    Differs from the source in: beyond 200 agents the smallest vertex cut is taken to be all that one agent hears. The
    direction of links is not looked at.
    """

    source: ClassVar[str] = "Fiedler 1973; Kőnig 1931; Menger 1927"

    def __call__(self, graph: nx.Graph, f: int, rng: np.random.Generator) -> Sequence[int]:
        """Equals in random order."""
        small_enough("min_cut", graph)
        agents = agents_of(graph)
        links = nx.Graph(only_agents(graph))
        if f == 0 or f > agents - 2 or nx.density(links) in (0, 1) or not nx.is_connected(links):
            return highest(np.zeros(agents), f, rng)
        side = _sparsest(links)
        cuts = [cut for cut in (_cover(links, side), _smallest(links)) if len(cut) <= f and _outside(links, cut)]
        if not cuts:
            return _most_links(links, side, f, rng)
        seats = sorted(max(cuts, key=partial(_outside, links)))
        between = nx.betweenness_centrality(links) if len(seats) < f else {}
        while len(seats) < f:
            largest = max(_parts(links, seats), key=lambda part: (len(part), -min(part)))
            seats += highest([between[a] if a in largest else -1.0 for a in range(agents)], 1, rng)
        return seats


def _sparsest(links: nx.Graph) -> set[int]:
    """One side of the cut with the fewest links for each agent on its smaller side, of those that sweeps find."""
    second, third = laplacian_spectrum(links)[1][:, 1:3].T
    best, ratio = [0], np.inf
    for line in (second, third, second + third, second - third):
        order = np.argsort(np.round(line, 9), kind="stable").tolist()
        side, crossing = set[int](), 0
        for count, agent in enumerate(order[:-1], 1):
            crossing += sum(-1 if other in side else 1 for other in links[agent])
            side.add(agent)
            if (found := crossing / min(count, len(order) - count)) < ratio:
                best, ratio = order[:count], found
    return set(best)


def _between(links: nx.Graph, side: Collection[int]) -> nx.Graph:
    return nx.Graph((a, b) for a in side for b in links[a] if b not in side)


def _cover(links: nx.Graph, side: Collection[int]) -> set[int]:
    """The fewest agents with an end of every link between the sides."""
    crossing = _between(links, side)
    top = set(side) & set(crossing)
    return set(nx.bipartite.to_vertex_cover(crossing, nx.bipartite.hopcroft_karp_matching(crossing, top), top))


def _smallest(links: nx.Graph) -> set[int]:
    """The fewest agents that part the others."""
    if len(links) <= _EXACT:
        return set(nx.minimum_node_cut(links))
    return set(links[min(links, key=lambda agent: (links.degree[agent], agent))])


def _parts(links: nx.Graph, cut: Collection[int]) -> list[set[int]]:
    return list(nx.connected_components(links.subgraph(set(links).difference(cut))))


def _outside(links: nx.Graph, cut: Collection[int]) -> int:
    """How many agents are not in the largest part when the cut is gone: 0 if it parts nobody."""
    sizes = [len(part) for part in _parts(links, cut)]
    return sum(sizes) - max(sizes, default=0)


def _most_links(links: nx.Graph, side: Collection[int], f: int, rng: np.random.Generator) -> list[int]:
    """F agents, each with the most links between the sides that those before it have no end of."""
    crossing = _between(links, side)
    seats: list[int] = []
    for _ in range(f):
        scores = [-1.0 if a in seats else len(crossing[a]) if a in crossing else 0.0 for a in range(len(links))]
        seats += highest(scores, 1, rng)
        if seats[-1] in crossing:
            crossing.remove_node(seats[-1])
    return seats
