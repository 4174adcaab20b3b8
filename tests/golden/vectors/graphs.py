"""Topologies and placements: edges and Byzantine agents, for several numbers of agents and rounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import networkx as nx
import numpy as np

from byzbench.core import Placement, Topology
from byzbench.errors import Undefined
from tests.golden.parts import Cases, Inputs, build, described_part, shipped
from tests.golden.summaries import digest_of

TOPOLOGIES: Mapping[str, tuple[str, ...]] = {
    "barabasi_albert": ("barabasi_albert:links=1", "barabasi_albert:links=3"),
    "dumbbell": ("dumbbell:bar=0", "dumbbell:bar=3"),
    "erdos_renyi": ("erdos_renyi:p=0.5", "erdos_renyi:p=0.5,directed=True"),
    "from_file": (
        "from_file:path=tests/golden/graph.txt,directed=True",
        "from_file:path=tests/golden/graph_marked.txt",
        "from_file:path=tests/golden/graph.graphml",
        "from_file:path=tests/golden/graph.graphml,directed=True",
    ),
    "grid": ("grid:columns=2",),
    "peer_sampling": ("peer_sampling:peers=2", "peer_sampling:peers=2,directed=True"),
    "random_geometric": ("random_geometric:radius=0.7",),
    "random_regular": ("random_regular:degree=3", "random_regular:degree=2"),
    "ring": ("ring:directed=True",),
    "ring_of_cliques": ("ring_of_cliques:cliques=3",),
    "small_world": ("small_world:degree=2,p=0.5",),
    "star": ("star:hub=agent",),
    "stochastic_block": ("stochastic_block:blocks=2,inside=0.6,between=0.4",),
    "time_varying": (
        "time_varying(ring, churn=0.3)",
        "time_varying(erdos_renyi, every=2)",
        "time_varying(ring(directed=True), churn=0.3)",
        "time_varying(complete, churn=0.5)",
    ),
    "torus": ("torus:rows=4", "torus:directed=True"),
    "two_worlds": ("two_worlds:links=2",),
}
PLACEMENTS: Mapping[str, tuple[str, ...]] = {
    "attach": ("attach:links=3", "attach:links=2,targets=4,clique=True"),
    "betweenness": ("betweenness:pivots=3",),
    "eclipse": ("eclipse:victim=4",),
    "influence_greedy": ("influence_greedy:horizon=3",),
    "influence_swap": ("influence_swap:horizon=2",),
    "relabelled": ("relabelled:salt=7",),
}
WRITTEN: Mapping[str, str] = {"from_file": "from_file:path=tests/golden/graph.txt"}


def generated() -> Cases:
    """Yield a case for every topology, placement and variant."""
    for kind, variants in (("topology", TOPOLOGIES), ("placement", PLACEMENTS)):
        for name, key in shipped(kind):
            for written in (WRITTEN.get(name, name), *variants.get(name, ())):
                yield f"graph {kind} {key}{written.removeprefix(name)}", partial(described_part, kind, written)


def outputs(name: str, inputs: Inputs) -> dict[str, Any]:
    """Return the edges of a topology, or the agents of a placement."""
    if "topology" in inputs:
        return _topology(inputs)
    return _placement(inputs)


def edges(graph: nx.Graph) -> str:
    """Return the number of edges, and a digest of nodes, edges, positions and server in their order."""
    nodes = [[node, [float(f"{x:.12g}") for x in data.get("pos", ())]] for node, data in graph.nodes(data=True)]
    return f"{graph.number_of_edges()} {digest_of([nodes, list(graph.edges), graph.graph.get('server')])}"


def _topology(inputs: Inputs) -> dict[str, Any]:
    topology = build("topology", inputs["topology"])
    assert isinstance(topology, Topology)
    results: dict[str, Any] = {"varies": topology.varies}
    refused = []
    for agents in (*range(1, 17), 24):
        for round in (0, 3) if topology.varies else (0,):
            label = f"{agents} agents, round {round}" if round else f"{agents} agents"
            try:
                results[label] = edges(topology(agents, round, np.random.default_rng([agents, 1])))
            except Undefined:
                refused.append(label)
    return results | {"refused": ", ".join(refused)}


def some_graphs() -> Iterator[tuple[str, nx.Graph]]:
    """Yield a label and a graph of agents, one of them with a server."""
    yield "grid", nx.convert_node_labels_to_integers(nx.grid_2d_graph(3, 4))
    yield "path", nx.path_graph(7)
    yield "cliques", nx.connected_caveman_graph(3, 4)
    yield "barbell", nx.barbell_graph(4, 1)
    yield "complete", nx.complete_graph(6)
    yield "tree", nx.balanced_tree(2, 3)
    yield "random", nx.gnp_random_graph(12, 0.35, seed=6)
    yield "scale-free", nx.barabasi_albert_graph(14, 2, seed=1)
    yield "directed", nx.gnp_random_graph(9, 0.5, seed=2, directed=True)
    star = nx.star_graph(5)
    server = nx.relabel_nodes(star, {0: 5, **{k: k - 1 for k in range(1, 6)}})
    server.graph["server"] = 5
    yield "server", server


def _placement(inputs: Inputs) -> dict[str, Any]:
    placement = build("placement", inputs["placement"])
    assert isinstance(placement, Placement)
    results: dict[str, Any] = {}
    for label, graph in some_graphs():
        results[label] = "; ".join(_byzantine(placement, graph, f) for f in range(4))
    return results


def _byzantine(placement: Placement, graph: nx.Graph, f: int) -> str:
    """Return the Byzantine agents, and the edges of the graph if they join it."""
    try:
        joined = placement.join(graph, f, np.random.default_rng([f, 4])) if placement.joins else graph
        chosen = " ".join(str(int(a)) for a in placement(joined, f, np.random.default_rng([f, 8])))
    except Undefined:
        return "refused"
    return f"{chosen} of {edges(joined)}" if placement.joins else chosen
