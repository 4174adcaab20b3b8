"""How many liars a graph bears, whoever they are: vertex connectivity, r-robustness and redundancy.

Graphs are of agents only, without a server. An agent of a directed graph hears its predecessors.
"""

from __future__ import annotations

from itertools import permutations, product

import networkx as nx
import numpy as np
import numpy.typing as npt

from byzbench.geometry.graphs import laplacian_spectrum

EXACT = 20
"""The most agents for whom r-robustness is found exactly: time and memory grow as n 2^n."""

_SLACK = 1e-9


def hears(graph: nx.Graph) -> npt.NDArray[np.int64]:
    """[n, n]: 1 where agent i hears agent j; nobody hears itself."""
    links = nx.to_numpy_array(graph, nodelist=sorted(graph), dtype=np.int64, weight=None).T
    np.fill_diagonal(links, 0)
    return links


def vertex_connectivity(graph: nx.Graph) -> int:
    """The fewest agents without whom some other two do not reach each other; n - 1 for a complete graph.

    Menger 1927: between two that do not hear each other it is the number of disjoint paths, a maximum flow through
    agents of capacity one. A smallest cut parts agent v from somebody, or holds v, who then has neighbours on both
    sides: only those pairs are looked at (Esfahanian, Hakimi 1984).
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_flow

    links, n = hears(graph).T, len(graph)
    degrees = np.minimum(links.sum(0), links.sum(1))
    v, best = int(degrees.argmin()), int(degrees.min())
    # Agent i is a link of capacity one from node 2 i to node 2 i + 1.
    tails, heads = links.nonzero()
    ones = np.ones(n + len(tails), dtype=np.int32)
    through = (np.r_[2 * np.arange(n), 2 * tails + 1], np.r_[2 * np.arange(n) + 1, 2 * heads])
    network = csr_array((ones, through), shape=(2 * n, 2 * n))
    around = (links[v] | links[:, v]).nonzero()[0].tolist()
    pairs = {*product([v], range(n)), *product(range(n), [v]), *permutations(around, 2)}
    for s, t in sorted(pairs):
        if not links[s, t] and (s < t or (s > t and graph.is_directed())):
            best = min(best, int(maximum_flow(network, 2 * s + 1, 2 * t).flow_value))
    return best


def robustness(graph: nx.Graph) -> int:
    """The largest r for which the graph is r-robust, of at most `EXACT` agents.

    Of any two disjoint sets of agents, one must have a member that hears at least r agents outside its set. With
    rho(S) = max over i in S of |N_i without S|, and g(M) = min over the subsets S of M of rho(S),

        r = min over S of max(rho(S), g(everybody without S))

    over all sets S of agents as bits of a number, and g by one pass for each agent, instead of the 3^n pairs.

    Source: LeBlanc, Zhang, Koutsoukos, Sundaram 2013, IEEE JSAC 31(4). Liars, at most F in everybody's neighbourhood,
    are borne by W-MSR if r >= 2 F + 1.
    """
    heard, n = hears(graph), len(graph)
    if n == 1:
        return 1
    sets = np.arange(1 << n, dtype=np.uint32)
    rho = np.zeros(len(sets), dtype=np.int8)
    for agent in range(n):
        whom = np.uint32(sum(1 << int(other) for other in heard[agent].nonzero()[0]))
        outside = np.bitwise_count(~sets & whom).astype(np.int8)
        np.maximum(rho, outside, out=rho, where=(sets >> np.uint32(agent) & np.uint32(1)).astype(bool))
    least = rho.copy()
    least[0] = n  # the empty set is none
    for agent in range(n):
        halves = least.reshape(-1, 2, 1 << agent)
        np.minimum(halves[:, 1], halves[:, 0], out=halves[:, 1])
    return int(np.maximum(rho, least[::-1])[1:-1].min())


def robustness_bounds(graph: nx.Graph) -> tuple[int, int]:
    """The least and the most that r can be, for a graph of any size; equal where `robustness` finds it.

    From below: 1 if the graph is connected; the smallest number of agents heard, less floor(n/2) - 1, as one of two
    disjoint sets has no more than n/2 members; and lambda / 2, with lambda the algebraic connectivity, as a set S of
    them has at least lambda |S| / 2 links to others. From above: ceil(n/2); whom any one agent hears, if anybody; the
    vertex connectivity; and what the pairs of a set and its rest allow that a sweep along the Fiedler vector meets.
    """
    n = len(graph)
    if n <= EXACT:
        return (robustness(graph),) * 2
    heard = hears(graph)
    fewest = int(heard.sum(1).min())
    whole = nx.is_strongly_connected(graph) if graph.is_directed() else nx.is_connected(graph)
    low, high = max(int(whole), fewest - n // 2 + 1), min((n + 1) // 2, max(fewest, 1))
    values, vectors = laplacian_spectrum(graph)
    if not graph.is_directed():
        low, high = max(low, int(np.ceil(values[1] / 2 - _SLACK))), min(high, vertex_connectivity(graph))
    inside, member, degrees = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=bool), heard.sum(1)
    for agent in np.argsort(np.round(vectors[:, 1], 9), kind="stable")[:-1]:
        inside += heard[:, agent]
        member[agent] = True
        high = min(high, max(int((degrees - inside)[member].max()), int(inside[~member].max())))
    return low, high


def redundancy(graph: nx.Graph) -> int | None:
    """The largest F of corrupted transmissions a step against which the graph is redundant; None if not connected.

    c_ij is the number of copies that j gets of what i says within two hops: one if they hear each other, and one from
    everybody whom both hear. For F there must be an r > 2 F such that the pairs with c_ij >= r connect everybody, and
    all other pairs have c_ij <= r - 2 F - 1: then no honest value is lost and no false one believed.

    Source: Lee, Panagou 2026 (FRAC-MARL), (r, r - 2F - 1)-redundancy, of undirected graphs.
    """
    if graph.is_directed() or not nx.is_connected(graph):
        return None
    links = hears(graph)
    copies = links + links @ links
    pairs = copies[np.triu_indices(len(links), 1)]
    best = 0
    for r in np.unique(pairs[pairs > 0]).tolist():
        if not nx.is_connected(nx.from_numpy_array(np.where(copies >= r, 1, 0))):
            break
        below = pairs[pairs < r]
        most = (r - 1 - int(below.max())) // 2 if len(below) else r
        best = max(best, min(most, (r - 1) // 2))
    return best
