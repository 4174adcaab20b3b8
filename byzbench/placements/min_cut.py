"""Placement on a minimum cut of the graph."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import networkx as nx
import numpy as np

from byzbench.core import Placement
from byzbench.core.ranked_placement import agent_subgraph, count_agents, require_dense_size, select_highest
from byzbench.geometry.graphs import laplacian_spectrum

_MAX_EXACT = 200


@dataclass(frozen=True)
class MinCut(Placement):
    """Placement that disconnects the honest agents if one of two cuts has at most f agents.

    The first cut is a minimum vertex cover of the edges that cross the sparsest cut. The sparsest cut minimises
    (crossing edges) / (agents on the smaller side) over sweeps along the second and third eigenvectors of the
    Laplacian, their sum and their difference. The second cut is a minimum vertex cut. Of the cuts with at most f
    agents, the one that leaves the most honest agents outside the largest component is used. Each further Byzantine
    agent is the agent with the highest betweenness in what is then the largest component. If both cuts have more than f
    agents, agents are selected greedily to cover as many crossing edges of the sparsest cut as possible.

    Source: Fiedler 1973, Algebraic connectivity of graphs, for the sweep; Kőnig 1931, for the cover; Menger 1927.

    Differs from the source in: with more than 200 agents, the second cut is the neighbourhood of an agent with the
    lowest degree. The direction of edges is ignored.

    Example:
        Two triangles that share agent 2:

        >>> triangles = nx.Graph([(0, 1), (1, 2), (2, 0), (2, 3), (3, 4), (4, 2)])
        >>> MinCut()(triangles, 1, np.random.default_rng(0))
        [2]
    """

    source: ClassVar[str] = "Fiedler 1973; Kőnig 1931; Menger 1927"

    def __call__(self, graph: nx.Graph, f: int, rng: np.random.Generator) -> Sequence[int]:
        """Return f agents that cut the graph if possible; ties are broken at random."""
        require_dense_size("min_cut", graph)
        agents = count_agents(graph)
        links = nx.Graph(agent_subgraph(graph))
        if f == 0 or f > agents - 2 or nx.density(links) in (0, 1) or not nx.is_connected(links):
            return select_highest(np.zeros(agents), f, rng)
        side = _sparsest_cut(links)
        cuts = [
            cut
            for cut in (_cover_crossing(links, side), _minimum_cut(links))
            if len(cut) <= f and _num_outside(links, cut)
        ]
        if not cuts:
            return _cover_greedily(links, side, f, rng)
        selected = sorted(max(cuts, key=partial(_num_outside, links)))
        betweenness = nx.betweenness_centrality(links) if len(selected) < f else {}
        while len(selected) < f:
            largest = max(_components(links, selected), key=lambda component: (len(component), -min(component)))
            selected += select_highest([betweenness[a] if a in largest else -1.0 for a in range(agents)], 1, rng)
        return selected


def _sparsest_cut(links: nx.Graph) -> set[int]:
    """Return one side of the sweep cut with the fewest crossing edges per agent on its smaller side."""
    second, third = laplacian_spectrum(links)[1][:, 1:3].T
    best, best_ratio = [0], np.inf
    for direction in (second, third, second + third, second - third):
        order = np.argsort(np.round(direction, 9), kind="stable").tolist()
        side, crossing = set[int](), 0
        for count, agent in enumerate(order[:-1], 1):
            crossing += sum(-1 if other in side else 1 for other in links[agent])
            side.add(agent)
            if (ratio := crossing / min(count, len(order) - count)) < best_ratio:
                best, best_ratio = order[:count], ratio
    return set(best)


def _crossing_edges(links: nx.Graph, side: Collection[int]) -> nx.Graph:
    """Return the graph of the edges between a side and the other agents."""
    return nx.Graph((a, b) for a in side for b in links[a] if b not in side)


def _cover_crossing(links: nx.Graph, side: Collection[int]) -> set[int]:
    """Return a minimum vertex cover of the edges between the sides."""
    crossing = _crossing_edges(links, side)
    top = set(side) & set(crossing)
    return set(nx.bipartite.to_vertex_cover(crossing, nx.bipartite.hopcroft_karp_matching(crossing, top), top))


def _minimum_cut(links: nx.Graph) -> set[int]:
    """Return a minimum vertex cut, or in a large graph the neighbours of an agent with the lowest degree."""
    if len(links) <= _MAX_EXACT:
        return set(nx.minimum_node_cut(links))
    return set(links[min(links, key=lambda agent: (links.degree[agent], agent))])


def _components(links: nx.Graph, cut: Collection[int]) -> list[set[int]]:
    """Return the connected components of the graph without the agents of the cut."""
    return list(nx.connected_components(links.subgraph(set(links).difference(cut))))


def _num_outside(links: nx.Graph, cut: Collection[int]) -> int:
    """Return the number of agents outside the largest component without the cut: 0 if it does not disconnect."""
    sizes = [len(component) for component in _components(links, cut)]
    return sum(sizes) - max(sizes, default=0)


def _cover_greedily(links: nx.Graph, side: Collection[int], f: int, rng: np.random.Generator) -> list[int]:
    """Select f agents greedily, each with the most crossing edges that no earlier agent covers."""
    crossing = _crossing_edges(links, side)
    selected: list[int] = []
    for _ in range(f):
        scores = [-1.0 if a in selected else len(crossing[a]) if a in crossing else 0.0 for a in range(len(links))]
        selected += select_highest(scores, 1, rng)
        if selected[-1] in crossing:
            crossing.remove_node(selected[-1])
    return selected
