"""The place: graphs, the liars' seats, and common randomness."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from torch import Tensor

from byzbench.contracts.component import Component

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True)
class Topology(Component):
    """A family of graphs: nodes 0 .. K-1, and a trusted server, if any, as node K, named in `graph.graph["server"]`.

    Where links have a direction, an agent hears its predecessors.

    Class attributes:
        varies: whether rounds have different graphs. Only such a graph may be in pieces, and not at all times. It is
            asked for in every round, with a fresh stream that is the same in all of them.
    """

    kind: ClassVar[str] = "topology"
    varies: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """The graph at this round, from the same stream, at its beginning, for all rounds.

        Raises `Undefined` where the family has none of this size.
        """


@dataclass(frozen=True)
class Placement(Component):
    """Which nodes of the graph the liars take.

    Class attributes:
        joins: whether the liars come from outside: the topology is drawn for the K - f honest agents, and `join` adds
            agents K - f .. K - 1 to it, whom `__call__` then names.
    """

    kind: ClassVar[str] = "placement"
    joins: ClassVar[bool] = False

    def join(self, graph: nx.Graph, f: int, rng: np.random.Generator) -> nx.Graph:
        """The graph with f more agents. Called at every round, with the same stream, if the placement `joins`."""
        raise NotImplementedError

    @abstractmethod
    def __call__(self, graph: nx.Graph, f: int, rng: np.random.Generator) -> Sequence[int]:
        """F distinct agents of the graph (never the server)."""


@dataclass(frozen=True)
class Coin(Component):
    """How agents obtain common randomness."""

    kind: ClassVar[str] = "coin"

    @abstractmethod
    def __call__(self, draw: Callable[[np.random.Generator], float], agents: int, rng: np.random.Generator) -> Tensor:
        """float64 [K]: the value of `draw` as each agent sees it."""

    def cost(self, agents: int) -> Sequence[tuple[int, int]]:
        """What one draw costs each agent: messages, and the bytes of each. Nothing, if it was dealt in a set-up."""
        return ()
