"""Time-varying graphs: a random family that is drawn again, or a graph whose edges are replaced."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.core import FloatRange, Topology
from byzbench.errors import Undefined
from byzbench.geometry.graph_families import derive_generator, draw_connected
from byzbench.topologies.small_world import SmallWorld


@dataclass(frozen=True)
class TimeVarying(Topology):
    """Graph that changes every r rounds: `time_varying(erdos_renyi, every=10)`, `time_varying(torus, churn=0.1)`.

    Without `churn`, the inner family is drawn again, so a deterministic family such as the ring does not change. With
    `churn`, the inner graph is drawn once. In each period, every edge of it is replaced with probability q by an edge
    between two agents that are not linked, drawn uniformly. So the number of edges is constant, and on average a share
    1 - q of them are edges of the inner graph. These graphs are drawn again until they are connected. Every graph
    depends only on its period and not on earlier graphs, so rounds can be visited in any order.

    Source: this benchmark's. For consensus on time-varying graphs: Olfati-Saber, Murray 2004, IEEE TAC 49(9).

    Attributes:
        inner: the family of graphs.
        every: r, the number of rounds for which a graph stays the same.
        churn: q, the probability that an edge is replaced; by default the whole graph is drawn again.
    """

    varies: ClassVar[bool] = True
    source: ClassVar[str] = "Olfati-Saber, Murray 2004, IEEE TAC 49(9), for the problem"
    inner: Annotated[Topology, Field(description="family of graphs")] = field(default_factory=SmallWorld)
    every: Annotated[
        int, Field(ge=1, description="rounds for which a graph stays the same"), FloatRange(1, 100, log=True)
    ] = 1
    churn: Annotated[
        float | None, Field(gt=0, le=1, description="probability that an edge is replaced; default: redraw all")
    ] = None

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """Return the graph of a round; a generator in the same state gives the same graph for the same round.

        Raises:
            Undefined: `churn` is given and the inner graph is directed or has a server.
        """
        root, period = int(rng.integers(2**63)), round // self.every
        if self.churn is None:
            return self.inner(agents, period * self.every, derive_generator(root, period))
        base = self.inner(agents, 0, derive_generator(root, 0))
        if base.is_directed() or "server" in base.graph:
            raise Undefined("time_varying: churn is for undirected graphs of agents, without a server")
        churn = self.churn
        name = f"time_varying: churn={churn:g} on {agents} agents"
        return draw_connected(
            lambda seed: _replace_edges(base, churn, seed),
            derive_generator(root, period + 1),
            name,
            "give a smaller churn",
        )


def _replace_edges(base: nx.Graph, churn: float, seed: int) -> nx.Graph:
    """Replace each edge with probability `churn`; a pair of agents a < b has the number b (b - 1) / 2 + a."""
    rng, n = np.random.default_rng(seed), len(base)
    edges = np.array([sorted(edge) for edge in base.edges], dtype=np.int64).reshape(-1, 2)
    retained = edges[rng.random(len(edges)) >= churn]
    used = np.sort(retained[:, 1] * (retained[:, 1] - 1) // 2 + retained[:, 0])
    offsets = rng.choice(n * (n - 1) // 2 - len(used), len(edges) - len(used), replace=False)
    # Offset i stands for the i-th pair number that no retained edge uses.
    drawn = offsets + np.searchsorted(used - np.arange(len(used)), offsets, side="right")
    b = ((1 + np.sqrt(1 + 8 * drawn.astype(np.float64))) // 2).astype(np.int64)
    graph = nx.empty_graph(n)
    graph.add_edges_from(retained.tolist())
    graph.add_edges_from(zip((drawn - b * (b - 1) // 2).tolist(), b.tolist(), strict=True))
    return graph
