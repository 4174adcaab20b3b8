"""Byzantine agents that a graph tolerates in any placement: vertex connectivity, r-robustness and redundancy.

Graphs contain agents only, without a server. In a directed graph an agent receives from its predecessors.
"""

from __future__ import annotations

from itertools import permutations, product

import networkx as nx
import numpy as np
import numpy.typing as npt

from byzbench.geometry.graphs import laplacian_spectrum

EXACT = 20
"""Maximum number of agents for which r-robustness is computed exactly: time and memory grow as n 2^n."""

_SLACK = 1e-9


def in_neighbor_masks(graph: nx.Graph) -> npt.NDArray[np.int64]:
    """Return a matrix [n, n] that is 1 where agent i receives from another agent j, and 0 elsewhere."""
    links = nx.to_numpy_array(graph, nodelist=sorted(graph), dtype=np.int64, weight=None).T
    np.fill_diagonal(links, 0)
    return links


def vertex_connectivity(graph: nx.Graph) -> int:
    """Return the minimum number of agents whose removal disconnects two others; n - 1 for a complete graph.

    Menger 1927: between two agents without an edge it is the number of disjoint paths, a maximum flow through agents of
    capacity one. A minimum cut either separates agent v from some agent, or contains v, which then has neighbours on
    both sides: only those pairs are computed (Esfahanian, Hakimi 1984).

    Example:
        >>> vertex_connectivity(nx.cycle_graph(5))
        2
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_flow

    links, n = in_neighbor_masks(graph).T, len(graph)
    degrees = np.minimum(links.sum(0), links.sum(1))
    v, minimum = int(degrees.argmin()), int(degrees.min())
    # Agent i is an edge of capacity one from node 2 i to node 2 i + 1.
    tails, heads = links.nonzero()
    ones = np.ones(n + len(tails), dtype=np.int32)
    edges = (np.r_[2 * np.arange(n), 2 * tails + 1], np.r_[2 * np.arange(n) + 1, 2 * heads])
    network = csr_array((ones, edges), shape=(2 * n, 2 * n))
    neighbours = (links[v] | links[:, v]).nonzero()[0].tolist()
    pairs = {*product([v], range(n)), *product(range(n), [v]), *permutations(neighbours, 2)}
    for s, t in sorted(pairs):
        if not links[s, t] and (s < t or (s > t and graph.is_directed())):
            minimum = min(minimum, int(maximum_flow(network, 2 * s + 1, 2 * t).flow_value))
    return minimum


def robustness(graph: nx.Graph) -> int:
    """Return the largest r for which the graph is r-robust, for at most `EXACT` agents.

    Of any two disjoint sets of agents, one must have a member that receives from at least r agents outside its set.
    With rho(S) = max over i in S of |N_i without S|, and g(M) = min over the subsets S of M of rho(S),

        r = min over S of max(rho(S), g(all agents without S))

    over all sets S of agents as bits of a number. g is computed by one pass for each agent, instead of over the 3^n
    pairs.

    Source: LeBlanc, Zhang, Koutsoukos, Sundaram 2013, IEEE JSAC 31(4). W-MSR tolerates at most F Byzantine agents in
    every neighbourhood if r >= 2 F + 1.

    Example:
        >>> robustness(nx.complete_graph(5))
        3
    """
    links, n = in_neighbor_masks(graph), len(graph)
    if n == 1:
        return 1
    sets = np.arange(1 << n, dtype=np.uint32)
    rho = np.zeros(len(sets), dtype=np.int8)
    for agent in range(n):
        senders = np.uint32(sum(1 << int(other) for other in links[agent].nonzero()[0]))
        num_outside = np.bitwise_count(~sets & senders).astype(np.int8)
        np.maximum(rho, num_outside, out=rho, where=(sets >> np.uint32(agent) & np.uint32(1)).astype(bool))
    least_rho = rho.copy()
    least_rho[0] = n  # excludes the empty set
    for agent in range(n):
        halves = least_rho.reshape(-1, 2, 1 << agent)
        np.minimum(halves[:, 1], halves[:, 0], out=halves[:, 1])
    return int(np.maximum(rho, least_rho[::-1])[1:-1].min())


def robustness_bounds(graph: nx.Graph) -> tuple[int, int]:
    """Return a lower and an upper bound of r, for a graph of any size; equal where `robustness` computes r.

    Lower bounds: 1 if the graph is connected; the minimum in-degree less floor(n/2) - 1, as one of two disjoint sets
    has at most n/2 members; and lambda / 2, with lambda the algebraic connectivity, as a set S of at most n/2 agents
    has at least lambda |S| / 2 edges to others. Upper bounds: ceil(n/2); the minimum in-degree, if not zero; the vertex
    connectivity; and the values of the pairs of a set and its complement along a sweep over the Fiedler vector.
    """
    n = len(graph)
    if n <= EXACT:
        return (robustness(graph),) * 2
    links = in_neighbor_masks(graph)
    min_degree = int(links.sum(1).min())
    connected = nx.is_strongly_connected(graph) if graph.is_directed() else nx.is_connected(graph)
    low, high = max(int(connected), min_degree - n // 2 + 1), min((n + 1) // 2, max(min_degree, 1))
    values, vectors = laplacian_spectrum(graph)
    if not graph.is_directed():
        low, high = max(low, int(np.ceil(values[1] / 2 - _SLACK))), min(high, vertex_connectivity(graph))
    num_inside, member, degrees = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=bool), links.sum(1)
    for agent in np.argsort(np.round(vectors[:, 1], 9), kind="stable")[:-1]:
        num_inside += links[:, agent]
        member[agent] = True
        high = min(high, max(int((degrees - num_inside)[member].max()), int(num_inside[~member].max())))
    return low, high


def redundancy(graph: nx.Graph) -> int | None:
    """Return the largest F of corrupted transmissions per step for which the graph is redundant; None if not connected.

    c_ij is the number of copies of a message of i that j receives within two hops: one if they are neighbours, and one
    from each common neighbour. For F there must be an r > 2 F such that the pairs with c_ij >= r connect all agents,
    and all other pairs have c_ij <= r - 2 F - 1: then no honest value is lost and no false one accepted.

    Source: Lee, Panagou 2026 (FRAC-MARL), (r, r - 2F - 1)-redundancy, of undirected graphs.

    Example:
        >>> redundancy(nx.complete_graph(5))
        1
    """
    if graph.is_directed() or not nx.is_connected(graph):
        return None
    links = in_neighbor_masks(graph)
    copies = links + links @ links
    pairs = copies[np.triu_indices(len(links), 1)]
    best = 0
    for r in np.unique(pairs[pairs > 0]).tolist():
        if not nx.is_connected(nx.from_numpy_array(np.where(copies >= r, 1, 0))):
            break
        below = pairs[pairs < r]
        largest = (r - 1 - int(below.max())) // 2 if len(below) else r
        best = max(best, min(largest, (r - 1) // 2))
    return best
