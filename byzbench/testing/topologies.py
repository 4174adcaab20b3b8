"""Conformance tests of topologies: one function for each property.

    for check in CHECKS:
        check(topology, TopologyCase(seed=0))

A check raises `AssertionError` with one line that describes the failure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import networkx as nx
import numpy as np

from byzbench.core import Topology
from byzbench.errors import Undefined

ROUNDS = 8
"""The number of rounds in which a varying graph must connect all agents."""


@dataclass(frozen=True)
class TopologyCase:
    """Input of a check: numbers of agents, and the seed of the graphs.

    Attributes:
        seed: The seed.
        sizes: The numbers of agents. A family needs no graph of every size.
    """

    seed: int = 0
    sizes: tuple[int, ...] = (1, 2, 3, 4, 5, 8, 9, 12, 13, 15, 16, 20, 64, 100)

    def rng(self) -> np.random.Generator:
        """Return a new generator with the seed of the case."""
        return np.random.default_rng(self.seed)


Check: TypeAlias = Callable[[Topology, TopologyCase], None]
CASES = (TopologyCase(0), TopologyCase(1, (6, 7, 10, 11, 14)))


def draw_graphs(topology: Topology, case: TopologyCase, round: int = 0) -> dict[int, nx.Graph]:
    """Return the graph of a round for each number of agents for which the family has one.

    Args:
        topology: The family of graphs.
        case: The sizes and the seed.
        round: The round.
    """
    graphs = {}
    for agents in case.sizes:
        try:
            graphs[agents] = topology(agents, round, case.rng())
        except Undefined:
            continue
        except Exception as error:
            error.add_note(f"for {agents} agents; a size without a graph is refused with `Undefined`")
            raise
    return graphs


def some_size_has_a_graph(topology: Topology, case: TopologyCase) -> None:
    """Check that the family has a graph of some size up to 100, and refuses all other sizes with `Undefined`."""
    largest = TopologyCase(case.seed, tuple(range(1, 101)))
    assert draw_graphs(topology, case) or draw_graphs(topology, largest), "it has no graph of 1 to 100 agents"


def nodes_are_the_agents(topology: Topology, case: TopologyCase) -> None:
    """Check that it returns a simple graph with the nodes 0 .. K-1 in order, and a server only as node K.

    The graph is directed exactly if the family declares `directed`.
    """
    for agents, graph in draw_graphs(topology, case).items():
        kind = type(graph).__name__
        assert isinstance(graph, nx.Graph), f"__call__ returned a {kind}, not a networkx graph"
        assert not graph.is_multigraph(), f"__call__ returned a {kind}, which can have parallel edges"
        nodes = list(graph)
        assert nodes[:agents] == list(range(agents)), f"for {agents} agents the nodes are {nodes[:5]}, not 0, 1, .."
        server = [graph.graph["server"]] if "server" in graph.graph else []
        assert nodes[agents:] == server, f"for {agents} agents it has the further nodes {nodes[agents:][:5]}"
        assert server in ([], [agents]), f"the server of {agents} agents is node {server}, not {agents}"
        assert nx.number_of_selfloops(graph) == 0, f"for {agents} agents it has an edge from an agent to itself"
        directed = bool(getattr(topology, "directed", graph.is_directed()))
        assert graph.is_directed() == directed, f"directed={directed}, but it returned a {kind}"


def agents_are_connected(topology: Topology, case: TopologyCase) -> None:
    """Check that the graph is connected, strongly if it is directed; over some rounds together if it varies."""
    for agents, graph in draw_graphs(topology, case).items():
        if topology.varies:
            graph = nx.compose_all([graph, *(topology(agents, r, case.rng()) for r in range(1, ROUNDS))])
        connected = nx.is_strongly_connected(graph) if graph.is_directed() else nx.is_connected(graph)
        rounds = f" in {ROUNDS} rounds together" if topology.varies else ""
        assert connected, f"the graph of {agents} agents is not connected{rounds}"


def same_generator_gives_same_edges(topology: Topology, case: TopologyCase) -> None:
    """Check that two calls with equal generators give the same edges in the same order."""
    for round in (0, 7):
        first, second = (draw_graphs(topology, case, round) for _ in range(2))
        for agents, graph in first.items():
            assert agents in second, f"{agents} agents: one of two equal calls gives a graph"
            same = list(graph.edges(data=True)) == list(second[agents].edges(data=True))
            assert same, f"two equal calls for {agents} agents give other edges: it draws from another generator"


def graph_changes_only_if_it_varies(topology: Topology, case: TopologyCase) -> None:
    """Check that the graph is the same in all rounds, unless the family declares `varies`."""
    for agents, graph in draw_graphs(topology, case).items():
        for round in (1, 2, 5):
            same = set(graph.edges) == set(topology(agents, round, case.rng()).edges)
            assert topology.varies or same, f"the graph of {agents} agents changes in round {round}; declare varies"


CHECKS: tuple[Check, ...] = (
    nodes_are_the_agents,
    some_size_has_a_graph,
    agents_are_connected,
    same_generator_gives_same_edges,
    graph_changes_only_if_it_varies,
)
FORM: tuple[Check, ...] = (nodes_are_the_agents,)
"""The checks of shapes and types, without which the others cannot run."""
