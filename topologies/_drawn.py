"""What families of graphs have in common: drawing until the graph is connected, and one order of its links."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import networkx as nx
import numpy as np

from byzbench.errors import Undefined

_TRIES = 100


def tidy(drawn: nx.Graph) -> nx.Graph:
    """The same graph with nodes and links in ascending order.

    networkx adds links in the order of hash tables; sorted, the same draw is the same graph everywhere.
    """
    graph = drawn.__class__(**drawn.graph)
    graph.add_nodes_from(sorted(drawn.nodes(data=True)))
    graph.add_edges_from(sorted(edge if drawn.is_directed() else tuple(sorted(edge)) for edge in drawn.edges))
    return graph


def whole(graph: nx.Graph) -> bool:
    """Whether everybody can hear of everybody: connected, or strongly connected where links have a direction."""
    return bool(nx.is_strongly_connected(graph) if graph.is_directed() else nx.is_connected(graph))


def connected(draw: Callable[[int], nx.Graph], rng: np.random.Generator, name: str, hint: str) -> nx.Graph:
    """The first graph of `draw(seed)` that is connected.

    Args:
        draw: makes a graph from a seed.
        rng: where seeds come from.
        name: what the graph is called in the error.
        hint: what to do where there is none.

    Raises:
        Undefined: none of 100 draws is.
    """
    for _ in range(_TRIES):
        graph = draw(int(rng.integers(2**32)))
        if whole(graph):
            return tidy(graph)
    raise Undefined(f"{name}: no connected graph in {_TRIES} tries; {hint}")


def at_least(name: str, agents: int, least: int) -> None:
    """Refuse fewer agents than a family needs.

    Raises:
        Undefined: with both numbers.
    """
    if agents < least:
        raise Undefined(f"{name}: needs at least {least} agents, got {agents}")


def shares(agents: int, parts: int) -> list[int]:
    """Agents in parts as equal as can be, the larger ones first."""
    return [agents // parts + (part < agents % parts) for part in range(parts)]


def clique(graph: nx.Graph, members: range) -> None:
    """Link all members to each other."""
    graph.add_edges_from(combinations(members, 2))


def stream(root: int, number: int) -> np.random.Generator:
    """One of many streams from one root: that of a round, or of a span of rounds."""
    return np.random.default_rng([root, number])
