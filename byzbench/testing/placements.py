"""Conformance tests of placements: one function for each property.

    for check in CHECKS:
        check(placement, PlacementCase(seed=0))

A check raises `AssertionError` with one line that describes the failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import networkx as nx
import numpy as np

from byzbench.core import Placement
from byzbench.errors import Undefined

SIZE = 9


@dataclass(frozen=True)
class PlacementCase:
    """Input of a check: small graphs with and without a server, directed and undirected.

    Attributes:
        seed: The seed of the random graphs and of the placement.
    """

    seed: int = 0

    def rng(self) -> np.random.Generator:
        """Return a new generator with the seed of the case."""
        return np.random.default_rng(self.seed)

    def graphs(self) -> dict[str, nx.Graph]:
        """Return the graphs by name."""
        around_server = nx.Graph(server=SIZE)
        around_server.add_nodes_from(range(SIZE + 1))
        around_server.add_edges_from((agent, SIZE) for agent in range(SIZE))
        return {
            "star with a server": around_server,
            "star": nx.star_graph(SIZE - 1),
            "complete": nx.complete_graph(SIZE),
            "path": nx.path_graph(SIZE),
            "ring": nx.cycle_graph(SIZE),
            "directed ring": nx.cycle_graph(SIZE, create_using=nx.DiGraph),
            "directed circulant": nx.DiGraph((a, (a + step) % SIZE) for a in range(SIZE) for step in (1, 3)),
            "barbell": nx.relabel_nodes(nx.barbell_graph(4, 1), {4: 8, 5: 4, 6: 5, 7: 6, 8: 7}),
            "preferential attachment": nx.barabasi_albert_graph(SIZE, 2, seed=self.rng()),
            "small world": nx.connected_watts_strogatz_graph(SIZE, 4, 0.2, seed=self.rng()),
            "one agent": nx.empty_graph(1),
            "two agents": nx.path_graph(2),
        }


Check: TypeAlias = Callable[[Placement, PlacementCase], None]
CASES = (PlacementCase(0), PlacementCase(1))


def place(placement: Placement, case: PlacementCase) -> Iterator[tuple[str, nx.Graph, int, Sequence[int]]]:
    """Yield the name of a graph, the graph, f and the chosen agents, wherever the placement is defined.

    A placement that joins agents adds them to the graph first; it needs a graph without a server.

    Args:
        placement: The placement.
        case: The graphs and the seed.
    """
    for name, graph in case.graphs().items():
        agents = len(graph) - ("server" in graph.graph)
        if placement.joins and "server" in graph.graph:
            continue
        for f in sorted({0, min(1, agents - 1), min(3, agents - 1), agents - 1}):
            try:
                joined = placement.join(graph.copy(), f, case.rng()) if placement.joins else graph
                yield name, joined, f, placement(joined, f, case.rng())
            except Undefined:
                continue


def selects_f_distinct_agents(placement: Placement, case: PlacementCase) -> None:
    """Check that it selects f distinct agents as integers, none for f = 0, and never the server."""
    selections = list(place(placement, case))
    assert any(f for *_, f, _ in selections), "it selects no agent on any graph: it is always undefined"
    for name, graph, f, selected in selections:
        text = f"graph {name!r}, f={f}: it selected {selected!r}"
        integers = isinstance(selected, Sequence) and all(type(agent) is int for agent in selected)
        assert integers, f"{text}, not a list of int"
        assert len(set(selected)) == len(selected) == f, f"{text}, not {f} distinct agents"
        allowed = set(graph) - {graph.graph.get("server")}
        assert set(selected) <= allowed, f"{text}, of which {sorted(set(selected) - allowed)} are no agents"


def same_generator_gives_same_agents(placement: Placement, case: PlacementCase) -> None:
    """Check that two calls with equal generators select the same agents."""
    for (name, first_graph, f, first), (*_, graph, _, second) in zip(
        place(placement, case), place(placement, case), strict=True
    ):
        same = list(first) == list(second) and first_graph.edges == graph.edges
        assert same, f"graph {name!r}, f={f}: two equal calls differ: it draws from another generator than `rng`"


def graph_is_not_modified(placement: Placement, case: PlacementCase) -> None:
    """Check that a selection does not change the graph."""
    originals = case.graphs()
    for name, graph, _, _ in [] if placement.joins else place(placement, case):
        unchanged = nx.to_dict_of_dicts(graph) == nx.to_dict_of_dicts(originals[name])
        assert unchanged, f"it modified the graph {name!r}"


def joined_agents_are_the_last(placement: Placement, case: PlacementCase) -> None:
    """Check that a placement that `joins` adds f agents with the highest numbers, selects them, and keeps the rest."""
    if not placement.joins:
        return
    graphs = case.graphs()
    for name, graph, f, selected in place(placement, case):
        honest = graphs[name]
        count = len(honest)
        assert sorted(graph) == list(range(count + f)), f"graph {name!r}: it has the nodes {sorted(graph)}"
        unchanged = nx.utils.graphs_equal(graph.subgraph(range(count)), honest)
        assert unchanged, f"graph {name!r}: it changes the edges between honest agents"
        new = list(range(count, count + f))
        assert sorted(selected) == new, f"graph {name!r}: it selected {selected}, not {new}"


CHECKS: tuple[Check, ...] = (
    selects_f_distinct_agents,
    same_generator_gives_same_agents,
    graph_is_not_modified,
    joined_agents_are_the_last,
)
FORM: tuple[Check, ...] = (selects_f_distinct_agents,)
"""The checks of shapes and types, without which the others cannot run."""
