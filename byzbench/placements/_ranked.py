"""Helpers for placements: the agents of a graph, and selection by the highest score."""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx
import numpy as np

from byzbench.errors import Undefined

DENSE = 2000
"""The largest number of agents for which a dense K x K matrix is built."""


def agents_of(graph: nx.Graph) -> int:
    """Return the number of agents K; a server is a node of the graph but not an agent."""
    return len(graph) - ("server" in graph.graph)


def only_agents(graph: nx.Graph) -> nx.Graph:
    """Return the subgraph of the agents, without a server."""
    return graph.subgraph(range(agents_of(graph)))


def highest(scores: Sequence[float] | np.ndarray, f: int, rng: np.random.Generator) -> list[int]:
    """Select the f agents with the highest scores [K], in descending order; ties are broken at random.

    Ties are ordered by one random permutation of all agents. So if all scores are equal, the selection is that of the
    placement `random`. Scores are ties if they agree in nine decimals after division by the largest absolute score,
    because the order of a summation must not change the selection. -inf is never selected before a finite score.

    Args:
        scores: one score for each agent.
        f: the number of agents to select.
        rng: the generator of the permutation.

    Example:
        >>> highest([0.1, 0.9, 0.5], 2, np.random.default_rng(0))
        [1, 2]
    """
    values = np.asarray(scores, dtype=np.float64)
    scale = np.abs(values[np.isfinite(values)]).max(initial=1e-300)
    rounded = np.round(values / scale, 9)
    order = rng.permutation(len(values))
    return order[np.argsort(-rounded[order], kind="stable")][:f].tolist()


def small_enough(name: str, graph: nx.Graph) -> None:
    """Check that the graph is small enough for dense K x K matrices.

    Raises:
        Undefined: the graph has more than `DENSE` agents.
    """
    if agents_of(graph) > DENSE:
        raise Undefined(f"placement {name} is for at most {DENSE} agents, got {agents_of(graph)}")
