"""How exposed the honest agents are: what the graph and the liars' seats leave of guarantees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch

from byzbench.federation.membership import Membership
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

Exposure: TypeAlias = dict[str, float | int | None]
Guarantee: TypeAlias = Callable[[int, int], bool]

DEAR = 200
"""The most agents for whom `dear` is computed unasked."""


def cheap(members: Membership) -> Exposure:
    """What every run can afford.

    - local_weight: the largest share of liars in an honest agent's closed neighbourhood;
    - gossip_weight: the same by mixing weights, the largest sum of W_ij over the liars j that an honest agent i hears;
    - influence: Phi_30, the weight of liars in 30 rounds of an honest agent's gossip, see `geometry.influence`;
    - beyond_bound: how many honest agents hear more liars than they allow for;
    - honest_components: into how many parts the honest agents fall without the liars;
    - connected_share: the share of all placements that leave the honest agents connected, where they are few.
    """
    liars, server = set(members.liars), members.server is not None
    return {
        "local_weight": local_weight(members.wires, liars),
        "gossip_weight": None if server else _gossip_weight(members),
        "influence": None if server else influence(members.mixing, members.senders, members.byzantine),
        "beyond_bound": beyond_bound(members.wires, liars, members.bounds.tolist()),
        "honest_components": honest_components(members.wires, liars),
        "connected_share": connected_share(members.wires, len(liars)),
    }


def _gossip_weight(members: Membership) -> float:
    theirs = (members.mixing * members.byzantine[members.senders]).sum(1)
    return float(theirs[~members.byzantine].max())


def dear(members: Membership) -> Exposure:
    """What takes seconds for 200 agents, and minutes for 1,000. None around a server.

    Of the whole graph, and so of any placement:

    - vertex_connectivity: the fewest agents without whom some two do not reach each other;
    - robustness_low, robustness_high: r-robustness, or bounds of it beyond 20 agents;
    - redundancy: the largest F of corrupted transmissions that it is redundant against.

    Of the honest agents alone:

    - spectral_gap: 1 - the second largest modulus of an eigenvalue of their mixing matrix;
    - algebraic_connectivity: the second smallest eigenvalue of their Laplacian; None where links have a direction.
    """
    keys = ("vertex_connectivity", "robustness_low", "robustness_high", "redundancy")
    if members.server is not None:
        return dict.fromkeys((*keys, "spectral_gap", "algebraic_connectivity"))
    graph, directed = members.graph, members.graph.is_directed()
    honest = graph.subgraph(set(graph).difference(members.liars))
    spectrum = laplacian_spectrum(honest)[0]
    found = (vertex_connectivity(graph), *robustness_bounds(graph), redundancy(graph))
    return dict(zip(keys, found, strict=True)) | {
        "spectral_gap": spectral_gap(matrix(honest, members.weights)),
        "algebraic_connectivity": None if directed or len(honest) < 2 else max(0.0, float(spectrum[1])),
    }


def guaranteed(members: Membership, rules: Mapping[str, Guarantee]) -> dict[str, dict[str, int]]:
    """At how many honest agents a rule's guarantee holds, for inboxes of n_i of which b_i lie.

    - declared: the rule is given f_i = min(declared, floor((n_i - 1) / 2)), as in a run; it must have b_i <= f_i;
    - local: the rule is given b_i itself, if an agent could know it.

    A guarantee is about one inbox: for a rule whose proof needs more of the graph, this is necessary, not sufficient.

    Args:
        members: the seats, without a server.
        rules: `guarantee` of each rule by its name.
    """
    heard = (members.mask & members.byzantine[members.senders]).sum(1)
    sizes = members.mask.sum(1)
    seats = torch.stack([sizes, heard, members.bounds], 1)[~members.byzantine]
    kinds, counts = torch.unique(seats, dim=0, return_counts=True)
    rows = [(*kind, count) for kind, count in zip(kinds.tolist(), counts.tolist(), strict=True)]
    return {
        name: {
            "declared": sum(count for n, b, f, count in rows if b <= f and holds(n, f)),
            "local": sum(count for n, b, _, count in rows if holds(n, b)),
        }
        for name, holds in rules.items()
    }
