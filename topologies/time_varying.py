"""Time-varying graphs: a family that is drawn anew, or links that come and go."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.contracts import Range, Topology
from byzbench.errors import Undefined
from byzbench.topologies._drawn import connected, stream
from byzbench.topologies.small_world import SmallWorld


@dataclass(frozen=True)
class TimeVarying(Topology):
    """Another graph every r rounds: `time_varying(erdos_renyi, every=10)`, `time_varying(torus, churn=0.1)`.

    Without `churn` the inner family is drawn anew, so a fixed one, such as the ring, stays as it is. With it, the inner
    graph is drawn once, and each of its links is replaced with probability q by one between two agents that are not
    linked, drawn uniformly: as many links at all times, on average a share 1 - q of them the old ones. Connected at
    all times. Every graph depends on its number only, not on those before it: rounds can be visited in any order.

    Source: this benchmark's. Consensus on graphs that change: Olfati-Saber, Murray 2004, IEEE TAC 49(9).

    Attributes:
        inner: the family.
        every: r.
        churn: q.
    """

    varies: ClassVar[bool] = True
    source: ClassVar[str] = "Olfati-Saber, Murray 2004, IEEE TAC 49(9), for the problem"
    inner: Annotated[Topology, Field(description="the family of graphs")] = field(default_factory=SmallWorld)
    every: Annotated[int, Field(ge=1, description="rounds that a graph lasts"), Range(1, 100, log=True)] = 1
    churn: Annotated[
        float | None, Field(gt=0, le=1, description="of a link to be replaced; default: all is drawn anew")
    ] = None

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """The same within `every` rounds, from the same rng."""
        root, span = int(rng.integers(2**63)), round // self.every
        if self.churn is None:
            return self.inner(agents, span * self.every, stream(root, span))
        base = self.inner(agents, 0, stream(root, 0))
        if base.is_directed() or "server" in base.graph:
            raise Undefined("time_varying: churn is for undirected graphs of agents, without a server")
        churn = self.churn
        name = f"time_varying: churn={churn:g} on {agents} agents"
        return connected(
            lambda seed: _replaced(base, churn, seed), stream(root, span + 1), name, "give a smaller churn"
        )


def _replaced(base: nx.Graph, churn: float, seed: int) -> nx.Graph:
    """The graph with some of its links replaced. A pair of agents a < b has the number b (b - 1) / 2 + a."""
    rng, n = np.random.default_rng(seed), len(base)
    links = np.array([sorted(edge) for edge in base.edges], dtype=np.int64).reshape(-1, 2)
    kept = links[rng.random(len(links)) >= churn]
    taken = np.sort(kept[:, 1] * (kept[:, 1] - 1) // 2 + kept[:, 0])
    free = rng.choice(n * (n - 1) // 2 - len(taken), len(links) - len(taken), replace=False)
    # The i-th of the numbers that are not taken.
    fresh = free + np.searchsorted(taken - np.arange(len(taken)), free, side="right")
    b = ((1 + np.sqrt(1 + 8 * fresh.astype(np.float64))) // 2).astype(np.int64)
    graph = nx.empty_graph(n)
    graph.add_edges_from(kept.tolist())
    graph.add_edges_from(zip((fresh - b * (b - 1) // 2).tolist(), b.tolist(), strict=True))
    return graph
