"""How much a placement of liars on a graph can do. A server, if the graph names one, is neither an agent nor a liar."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from math import comb

import networkx as nx
import numpy as np
import numpy.typing as npt


def _agents(graph: nx.Graph) -> list[int]:
    return [node for node in graph if node != graph.graph.get("server")]


def heard(graph: nx.Graph) -> Mapping[int, Mapping[int, object]]:
    """Whom each node hears: its neighbours, or its predecessors where links have a direction."""
    return graph.pred if graph.is_directed() else graph.adj


def _byzantine_neighbours(graph: nx.Graph, byzantine: Collection[int]) -> dict[int, int]:
    """The number of Byzantine agents that each honest agent hears."""
    liars, whom = set(byzantine), heard(graph)
    return {agent: len(liars.intersection(whom[agent])) for agent in _agents(graph) if agent not in liars}


def local_weight(graph: nx.Graph, byzantine: Collection[int]) -> float:
    """The largest share of Byzantine agents in an honest agent's closed neighbourhood; a server does not count."""
    server, whom = graph.graph.get("server"), heard(graph)
    sizes = {agent: 1 + sum(other not in (agent, server) for other in whom[agent]) for agent in _agents(graph)}
    return max((liars / sizes[agent] for agent, liars in _byzantine_neighbours(graph, byzantine).items()), default=0.0)


def beyond_bound(graph: nx.Graph, byzantine: Collection[int], bounds: Sequence[int]) -> int:
    """How many honest agents have more Byzantine neighbours than the bound each works with, bounds[agent]."""
    return sum(liars > bounds[agent] for agent, liars in _byzantine_neighbours(graph, byzantine).items())


def honest_components(graph: nx.Graph, byzantine: Collection[int]) -> int:
    """Into how many parts the honest agents fall without the Byzantine ones. A server holds its neighbours together.

    Where links have a direction, members of a part reach each other both ways.
    """
    honest = set(_agents(graph)).difference(byzantine)
    rest = graph.subgraph(set(graph).difference(byzantine))
    parts = nx.strongly_connected_components if rest.is_directed() else nx.connected_components
    return sum(not honest.isdisjoint(part) for part in parts(rest))


def laplacian_spectrum(graph: nx.Graph) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The eigenvalues [n] of the Laplacian, ascending, and its eigenvectors [n, n] as columns; directions are ignored.

    The second value is the algebraic connectivity, its vector Fiedler's.
    """
    laplacian = nx.laplacian_matrix(nx.Graph(graph), nodelist=sorted(graph), weight=None).toarray()
    values, vectors = np.linalg.eigh(laplacian.astype(np.float64))
    return values, vectors


def connected_share(graph: nx.Graph, f: int, limit: int = 5000) -> float | None:
    """The share of all placements of f liars that leave the honest agents connected.

    Args:
        graph: K agents, and possibly a server.
        f: how many of the agents lie; fewer than K.
        limit: the most placements looked at.

    Returns:
        The share over all C(K, f) placements, or None where there are more than `limit`, or links have a direction.
    """
    agents = _agents(graph)
    count = comb(len(agents), f)
    if count > limit or graph.is_directed():
        return None
    place = {node: i for i, node in enumerate(graph)}
    neighbours = [sum(1 << place[other] for other in graph[node]) for node in graph]
    everyone = (1 << len(place)) - 1
    whole = sum(1 << place[agent] for agent in agents)
    connected = 0
    for liars in combinations(agents, f):
        gone = sum(1 << place[liar] for liar in liars)
        connected += _together(neighbours, whole & ~gone, everyone & ~gone)
    return connected / count


def _together(neighbours: Sequence[int], members: int, alive: int) -> bool:
    """Whether all members (a bit set) can reach each other through living nodes."""
    reached = frontier = members & -members
    while frontier:
        node = frontier & -frontier
        fresh = neighbours[node.bit_length() - 1] & alive & ~reached
        reached |= fresh
        frontier = frontier ^ node | fresh
    return members & ~reached == 0


def shortest_disjoint(graph: nx.Graph, source: int, target: int, count: int) -> int:
    """The fewest edges of so many paths that share no node between their ends; there must be as many.

    A flow of least cost through each node but once: Suurballe's problem.
    """
    split = nx.DiGraph()
    for node in graph:
        split.add_edge((node, 0), (node, 1), capacity=count if node in (source, target) else 1, weight=0)
        split.add_edges_from((((node, 1), (other, 0)) for other in graph[node]), capacity=1, weight=1)
    split.nodes[source, 0]["demand"], split.nodes[target, 1]["demand"] = -count, count
    return int(nx.network_simplex(split)[0])
