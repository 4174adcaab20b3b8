"""Graph diagnostics: how exposed the honest agents are for a given graph and placement of Byzantine agents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch

from byzbench.federation.communication_graph import CommunicationGraph
from byzbench.geometry.graphs import (
    beyond_bound,
    connected_share,
    honest_components,
    laplacian_spectrum,
    local_weight,
)
from byzbench.geometry.influence import influence
from byzbench.geometry.mixing import matrix, spectral_gap
from byzbench.geometry.robustness import redundancy, robustness_bounds, vertex_connectivity
from byzbench.threads import one_thread

GraphDiagnostics: TypeAlias = dict[str, float | int | None]
Guarantee: TypeAlias = Callable[[int, int], bool]

EXPENSIVE = 200
"""The largest number of agents for which `expensive_diagnostics` is computed by default."""


@one_thread()
def fast_diagnostics(members: CommunicationGraph) -> GraphDiagnostics:
    """Compute the diagnostics that are fast for every run.

    - local_weight: the largest share of Byzantine agents in the closed neighbourhood of an honest agent;
    - gossip_weight: the largest sum of mixing weights W_ij over the Byzantine senders j of an honest agent i;
    - influence: Phi_30, the weight of Byzantine agents in 30 rounds of gossip, see `geometry.influence`;
    - beyond_bound: the number of honest agents with more Byzantine neighbours than their bound;
    - honest_components: the number of connected components of the honest agents without the Byzantine agents;
    - connected_share: the share of all placements that leave the honest agents connected, if it can be enumerated.

    Args:
        members: the graph and the placement.

    Returns:
        The diagnostics by name; None where one is not defined or too expensive.

    Example:
        >>> import networkx as nx
        >>> members = CommunicationGraph(nx.cycle_graph(5), num_agents=5, byzantine_ids=(0, 2), assumed_byzantine=1)
        >>> diagnostics = fast_diagnostics(members)
        >>> diagnostics["beyond_bound"], diagnostics["honest_components"], diagnostics["connected_share"]
        (1, 2, 0.5)
    """
    byzantine, server = set(members.byzantine_ids), members.server is not None
    return {
        "local_weight": local_weight(members.effective_graph, byzantine),
        "gossip_weight": None if server else _gossip_weight(members),
        "influence": None if server else influence(members.mixing, members.senders, members.byzantine),
        "beyond_bound": beyond_bound(members.effective_graph, byzantine, members.bounds.tolist()),
        "honest_components": honest_components(members.effective_graph, byzantine),
        "connected_share": connected_share(members.effective_graph, len(byzantine)),
    }


def server_diagnostics(members: CommunicationGraph, groups: int = 1) -> GraphDiagnostics:
    """Compute what a server that aggregates the messages of all agents, or of each group of them, receives.

    - local_weight: the largest share of Byzantine agents in an inbox of the server;
    - beyond_bound: the number of inboxes with more Byzantine agents than their bound.

    Args:
        members: the graph around a server, and the placement.
        groups: the number of groups, each of which has an inbox of its own.

    Returns:
        The diagnostics by name.

    Example:
        >>> import networkx as nx
        >>> members = CommunicationGraph(nx.empty_graph(4), num_agents=4, byzantine_ids=(0,), assumed_byzantine=1)
        >>> server_diagnostics(members), server_diagnostics(members, groups=2)
        ({'local_weight': 0.25, 'beyond_bound': 0}, {'local_weight': 0.5, 'beyond_bound': 1})
    """
    senders, mask = members.partition(groups)
    num_byzantine, sizes = (mask & members.byzantine[senders]).sum(1).tolist(), mask.sum(1).tolist()
    return {
        "local_weight": max(b / n for b, n in zip(num_byzantine, sizes, strict=True)),
        "beyond_bound": sum(b > members.bound(n) for b, n in zip(num_byzantine, sizes, strict=True)),
    }


def _gossip_weight(members: CommunicationGraph) -> float:
    """Return the largest total mixing weight of Byzantine senders at an honest agent."""
    byzantine_weight = (members.mixing * members.byzantine[members.senders]).sum(1)
    return float(byzantine_weight[~members.byzantine].max())


def expensive_diagnostics(members: CommunicationGraph) -> GraphDiagnostics:
    """Compute the diagnostics that take seconds for 200 agents and minutes for 1,000. All are None around a server.

    Of the whole graph, independent of the placement:

    - vertex_connectivity: the smallest number of agents whose removal disconnects the graph;
    - robustness_low, robustness_high: bounds of r-robustness, which are equal up to 20 agents;
    - redundancy: the largest number F of corrupted transmissions against which the graph is redundant.

    Of the subgraph of the honest agents:

    - spectral_gap: 1 - the second largest modulus of an eigenvalue of its mixing matrix;
    - algebraic_connectivity: the second smallest eigenvalue of its Laplacian; None for a directed graph.

    Args:
        members: the graph and the placement.

    Returns:
        The diagnostics by name.
    """
    keys = ("vertex_connectivity", "robustness_low", "robustness_high", "redundancy")
    if members.server is not None:
        return dict.fromkeys((*keys, "spectral_gap", "algebraic_connectivity"))
    graph, directed = members.graph, members.graph.is_directed()
    honest = graph.subgraph(set(graph).difference(members.byzantine_ids))
    spectrum = laplacian_spectrum(honest)[0]
    values = (vertex_connectivity(graph), *robustness_bounds(graph), redundancy(graph))
    return dict(zip(keys, values, strict=True)) | {
        "spectral_gap": spectral_gap(matrix(honest, members.weights)),
        "algebraic_connectivity": None if directed or len(honest) < 2 else max(0.0, float(spectrum[1])),
    }


def guaranteed(members: CommunicationGraph, rules: Mapping[str, Guarantee]) -> dict[str, dict[str, int]]:
    """Count the honest agents at which the guarantee of a rule holds.

    The inbox of agent i has n_i vectors, of which b_i are Byzantine.

    - assumed: the rule is given f_i = min(assumed_byzantine, floor((n_i - 1) / 2)), as in a run, and b_i <= f_i must
      hold;
    - local: the rule is given b_i itself, as if an agent could know it.

    A guarantee is about one inbox. For a rule whose proof has further conditions on the graph, this one is necessary
    but not sufficient.

    Args:
        members: the graph and the placement, without a server.
        rules: by name, the `guarantee` method of each rule.

    Returns:
        By the name of the rule, the numbers of honest agents `assumed` and `local`.

    Example:
        >>> import networkx as nx
        >>> members = CommunicationGraph(nx.cycle_graph(5), num_agents=5, byzantine_ids=(0, 2), assumed_byzantine=1)
        >>> guaranteed(members, {"krum": lambda n, f: n >= 2 * f + 3, "median": lambda n, f: n > 2 * f})
        {'krum': {'assumed': 0, 'local': 0}, 'median': {'assumed': 2, 'local': 2}}
    """
    num_byzantine = (members.mask & members.byzantine[members.senders]).sum(1)
    sizes = members.mask.sum(1)
    inboxes = torch.stack([sizes, num_byzantine, members.bounds], 1)[~members.byzantine]
    distinct, counts = torch.unique(inboxes, dim=0, return_counts=True)
    rows = [(*inbox, count) for inbox, count in zip(distinct.tolist(), counts.tolist(), strict=True)]
    return {
        name: {
            "assumed": sum(count for n, b, f, count in rows if b <= f and holds(n, f)),
            "local": sum(count for n, b, _, count in rows if holds(n, b)),
        }
        for name, holds in rules.items()
    }
