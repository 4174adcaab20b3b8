"""What placements have in common: the agents of a graph, and those of the highest score."""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx
import numpy as np

from byzbench.errors import Undefined

DENSE = 2000
"""The most agents for whom a matrix of all pairs is written down."""


def agents_of(graph: nx.Graph) -> int:
    """K; a server, which has the last number, is no agent."""
    return len(graph) - ("server" in graph.graph)


def only_agents(graph: nx.Graph) -> nx.Graph:
    """The graph without its server."""
    return graph.subgraph(range(agents_of(graph)))


def highest(scores: Sequence[float] | np.ndarray, f: int, rng: np.random.Generator) -> list[int]:
    """The f agents of the highest scores [K], the highest first; equals in the order of one random permutation.

    So where all agents are alike, the liars sit as with the placement `random`. Scores that agree in nine digits of the
    largest are equal: sums in another order must not seat anybody elsewhere. -inf is never taken before a number.
    """
    values = np.asarray(scores, dtype=np.float64)
    scale = np.abs(values[np.isfinite(values)]).max(initial=1e-300)
    rounded = np.round(values / scale, 9)
    order = rng.permutation(len(values))
    return order[np.argsort(-rounded[order], kind="stable")][:f].tolist()


def small_enough(name: str, graph: nx.Graph) -> None:
    """Refuse graphs for which a matrix of all pairs is too large.

    Raises:
        Undefined: with both numbers.
    """
    if agents_of(graph) > DENSE:
        raise Undefined(f"placement {name} is for at most {DENSE} agents, got {agents_of(graph)}")
