"""Helpers for families of graphs: sampling until a graph is connected, and a canonical order of nodes and edges."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import networkx as nx
import numpy as np

from byzbench.errors import Undefined

_MAX_DRAWS = 100


def sort_graph(unsorted: nx.Graph) -> nx.Graph:
    """Return a copy of the graph with nodes and edges in ascending order.

    NetworkX adds some edges in the order of a hash table. After sorting, the same draw gives the same graph on every
    platform. Graph attributes and node attributes are copied, edge attributes are dropped.

    Args:
        unsorted: a directed or undirected graph with sortable nodes.

    Example:
        >>> list(sort_graph(nx.Graph([(2, 1), (1, 0)])).edges)
        [(0, 1), (1, 2)]
    """
    graph = unsorted.__class__(**unsorted.graph)
    graph.add_nodes_from(sorted(unsorted.nodes(data=True)))
    graph.add_edges_from(sorted(edge if unsorted.is_directed() else tuple(sorted(edge)) for edge in unsorted.edges))
    return graph


def is_connected(graph: nx.Graph) -> bool:
    """Return whether an undirected graph is connected, or a directed graph strongly connected.

    Example:
        >>> is_connected(nx.path_graph(3)), is_connected(nx.DiGraph([(0, 1), (1, 2)]))
        (True, False)
    """
    return bool(nx.is_strongly_connected(graph) if graph.is_directed() else nx.is_connected(graph))


def draw_connected(draw: Callable[[int], nx.Graph], rng: np.random.Generator, name: str, hint: str) -> nx.Graph:
    """Draw graphs until one is connected, and return it with sorted nodes and edges.

    Args:
        draw: returns a graph for a seed.
        rng: the generator that seeds are drawn from.
        name: the name of the graph in the error message.
        hint: the advice at the end of the error message.

    Returns:
        The first connected graph, or strongly connected graph if it is directed.

    Raises:
        Undefined: none of 100 draws is connected.

    Example:
        >>> def draw(seed):
        ...     return nx.gnp_random_graph(4, 0.5, seed)
        >>> is_connected(draw_connected(draw, np.random.default_rng(0), "mine: p=0.5", "give a larger p"))
        True
    """
    for _ in range(_MAX_DRAWS):
        graph = draw(int(rng.integers(2**32)))
        if is_connected(graph):
            return sort_graph(graph)
    raise Undefined(f"{name}: no connected graph in {_MAX_DRAWS} tries; {hint}")


def require_agents(name: str, agents: int, least: int) -> None:
    """Check that there are enough agents for a family of graphs.

    Args:
        name: the name of the family in the error message.
        agents: the number of agents.
        least: the smallest number for which the family has a graph.

    Raises:
        Undefined: there are fewer than `least` agents.

    Example:
        >>> require_agents("ring", agents=2, least=3)
        Traceback (most recent call last):
            ...
        byzbench.errors.Undefined: ring: needs at least 3 agents, got 2
    """
    if agents < least:
        raise Undefined(f"{name}: needs at least {least} agents, got {agents}")


def split_evenly(agents: int, parts: int) -> list[int]:
    """Return the sizes of `parts` groups of agents that differ by at most one, larger groups first.

    Example:
        >>> split_evenly(11, 3)
        [4, 4, 3]
    """
    return [agents // parts + (part < agents % parts) for part in range(parts)]


def add_clique(graph: nx.Graph, members: range) -> None:
    """Add an edge between any two members.

    Example:
        >>> graph = nx.empty_graph(4)
        >>> add_clique(graph, range(1, 4))
        >>> list(graph.edges)
        [(1, 2), (1, 3), (2, 3)]
    """
    graph.add_edges_from(combinations(members, 2))


def derive_generator(root: int, number: int) -> np.random.Generator:
    """Return the generator with a given number (for example a round) among those derived from one root seed.

    Example:
        >>> first, again = derive_generator(7, 3), derive_generator(7, 3)
        >>> first.random() == again.random()
        True
    """
    return np.random.default_rng([root, number])
