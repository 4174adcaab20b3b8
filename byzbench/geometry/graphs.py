"""Measures of graphs and of placements of Byzantine agents. A server, if the graph names one, is not an agent."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from math import comb

import networkx as nx
import numpy as np
import numpy.typing as npt


def _agents(graph: nx.Graph) -> list[int]:
    """Return the nodes except the server."""
    return [node for node in graph if node != graph.graph.get("server")]


def in_neighbors(graph: nx.Graph) -> Mapping[int, Mapping[int, object]]:
    """Return the nodes that each node receives from: its neighbours, or its predecessors in a directed graph."""
    return graph.pred if graph.is_directed() else graph.adj


def _byzantine_neighbours(graph: nx.Graph, byzantine: Collection[int]) -> dict[int, int]:
    """Return the number of Byzantine agents that each honest agent receives from."""
    byzantine_set, senders = set(byzantine), in_neighbors(graph)
    return {
        agent: len(byzantine_set.intersection(senders[agent])) for agent in _agents(graph) if agent not in byzantine_set
    }


def local_weight(graph: nx.Graph, byzantine: Collection[int]) -> float:
    """Return the largest share of Byzantine agents in an honest agent's closed neighbourhood.

    A server does not count.

    Example:
        >>> local_weight(nx.path_graph(3), [0])
        0.3333333333333333
    """
    server, senders = graph.graph.get("server"), in_neighbors(graph)
    sizes = {agent: 1 + sum(other not in (agent, server) for other in senders[agent]) for agent in _agents(graph)}
    return max(
        (num_byzantine / sizes[agent] for agent, num_byzantine in _byzantine_neighbours(graph, byzantine).items()),
        default=0.0,
    )


def beyond_bound(graph: nx.Graph, byzantine: Collection[int], bounds: Sequence[int]) -> int:
    """Return how many honest agents have more Byzantine neighbours than their bound.

    Args:
        graph: the communication graph.
        byzantine: the Byzantine agents.
        bounds: the bound f that each agent works with, by agent.

    Example:
        >>> beyond_bound(nx.star_graph(3), [1, 2], [1, 1, 1, 1])
        1
    """
    return sum(
        num_byzantine > bounds[agent] for agent, num_byzantine in _byzantine_neighbours(graph, byzantine).items()
    )


def honest_components(graph: nx.Graph, byzantine: Collection[int]) -> int:
    """Return the number of components of the honest agents without the Byzantine ones.

    A server connects its neighbours. In a directed graph, components are strongly connected.

    Example:
        >>> honest_components(nx.path_graph(5), [2])
        2
    """
    honest = set(_agents(graph)).difference(byzantine)
    honest_graph = graph.subgraph(set(graph).difference(byzantine))
    components = nx.strongly_connected_components if honest_graph.is_directed() else nx.connected_components
    return sum(not honest.isdisjoint(component) for component in components(honest_graph))


def laplacian_spectrum(graph: nx.Graph) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the eigenvalues [n] of the Laplacian, ascending, and its eigenvectors [n, n] as columns.

    Directions are ignored. The second eigenvalue is the algebraic connectivity, its eigenvector the Fiedler vector.
    """
    laplacian = nx.laplacian_matrix(nx.Graph(graph), nodelist=sorted(graph), weight=None).toarray()
    values, vectors = np.linalg.eigh(laplacian.astype(np.float64))
    return values, vectors


def connected_share(graph: nx.Graph, f: int, limit: int = 5000) -> float | None:
    """Return the share of all placements of f Byzantine agents that leave the honest agents connected.

    Args:
        graph: K agents, and possibly a server.
        f: the number of Byzantine agents, less than K.
        limit: the maximum number of placements that are computed.

    Returns:
        The share over all C(K, f) placements, or None where there are more than `limit`, or the graph is directed.

    Example:
        >>> connected_share(nx.cycle_graph(4), 2)
        0.6666666666666666
    """
    agents = _agents(graph)
    count = comb(len(agents), f)
    if count > limit or graph.is_directed():
        return None
    bit = {node: i for i, node in enumerate(graph)}
    neighbours = [sum(1 << bit[other] for other in graph[node]) for node in graph]
    all_nodes = (1 << len(bit)) - 1
    all_agents = sum(1 << bit[agent] for agent in agents)
    connected = 0
    for byzantine in combinations(agents, f):
        byzantine_bits = sum(1 << bit[agent] for agent in byzantine)
        connected += _are_connected(neighbours, all_agents & ~byzantine_bits, all_nodes & ~byzantine_bits)
    return connected / count


def _are_connected(neighbours: Sequence[int], members: int, alive: int) -> bool:
    """Return whether all members can reach each other through the nodes in `alive`.

    Args:
        neighbours: the neighbours of each node, as bit sets.
        members: the agents, as a bit set; a subset of `alive`.
        alive: the nodes that are not removed, as a bit set.
    """
    reached = frontier = members & -members
    while frontier:
        node = frontier & -frontier
        new_nodes = neighbours[node.bit_length() - 1] & alive & ~reached
        reached |= new_nodes
        frontier = frontier ^ node | new_nodes
    return members & ~reached == 0


def shortest_disjoint(graph: nx.Graph, source: int, target: int, count: int) -> int:
    """Return the fewest edges of `count` paths from source to target that share no other node.

    There must be that many such paths. It is a flow of least cost with a node capacity of one: Suurballe's problem.

    Args:
        graph: The graph, directed or not.
        source: The first node of every path.
        target: The last node of every path.
        count: The number of paths.

    Example:
        >>> shortest_disjoint(nx.cycle_graph(5), 0, 2, 2)
        5
    """
    split = nx.DiGraph()
    for node in graph:
        split.add_edge((node, 0), (node, 1), capacity=count if node in (source, target) else 1, weight=0)
        split.add_edges_from((((node, 1), (other, 0)) for other in graph[node]), capacity=1, weight=1)
    split.nodes[source, 0]["demand"], split.nodes[target, 1]["demand"] = -count, count
    return int(nx.network_simplex(split)[0])
