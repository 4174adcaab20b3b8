"""Parts of placements: the agents of a graph, and selection by the highest score."""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx
import numpy as np

from byzbench.errors import Undefined

MAX_DENSE_AGENTS = 2000
"""The largest number of agents for which a dense K x K matrix is built."""


def count_agents(graph: nx.Graph) -> int:
    """Return the number of agents K; a server is a node of the graph but not an agent.

    Example:
        >>> count_agents(nx.star_graph(4)), count_agents(nx.Graph(nx.star_graph(4), server=4))
        (5, 4)
    """
    return len(graph) - ("server" in graph.graph)


def agent_subgraph(graph: nx.Graph) -> nx.Graph:
    """Return the subgraph of the agents, without a server.

    Example:
        >>> list(agent_subgraph(nx.Graph([(0, 1), (0, 2), (1, 2)], server=2)).edges)
        [(0, 1)]
    """
    return graph.subgraph(range(count_agents(graph)))


def select_highest(scores: Sequence[float] | np.ndarray, f: int, rng: np.random.Generator) -> list[int]:
    """Select the f agents with the highest scores [K], in descending order; ties are broken at random.

    Ties are ordered by one random permutation of all agents. So if all scores are equal, the selection is that of the
    placement `random`. Scores are ties if they agree in nine decimals after division by the largest absolute score,
    because the order of a summation must not change the selection. -inf is never selected before a finite score.

    Args:
        scores: one score for each agent.
        f: the number of agents to select.
        rng: the generator of the permutation.

    Example:
        >>> select_highest([0.1, 0.9, 0.5], 2, np.random.default_rng(0))
        [1, 2]
    """
    values = np.asarray(scores, dtype=np.float64)
    scale = np.abs(values[np.isfinite(values)]).max(initial=1e-300)
    rounded = np.round(values / scale, 9)
    order = rng.permutation(len(values))
    return order[np.argsort(-rounded[order], kind="stable")][:f].tolist()


def require_dense_size(name: str, graph: nx.Graph) -> None:
    """Check that the graph is small enough for dense K x K matrices.

    Raises:
        Undefined: the graph has more than `MAX_DENSE_AGENTS` agents.

    Example:
        >>> require_dense_size("mine", nx.empty_graph(2001))
        Traceback (most recent call last):
            ...
        byzbench.errors.Undefined: placement mine is for at most 2000 agents, got 2001
    """
    if count_agents(graph) > MAX_DENSE_AGENTS:
        raise Undefined(f"placement {name} is for at most {MAX_DENSE_AGENTS} agents, got {count_agents(graph)}")
