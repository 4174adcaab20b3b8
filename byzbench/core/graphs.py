"""Base classes of topologies, of placements of the Byzantine agents, and of common randomness."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from torch import Tensor

from byzbench.core.communication import Communication
from byzbench.core.component import Component
from byzbench.errors import Undefined

if TYPE_CHECKING:
    import networkx as nx

    from byzbench.core.setting import Setting


@dataclass(frozen=True)
class Topology(Component):
    """A family of graphs.

    The agents are the nodes 0 .. K-1. A trusted server, if any, is node K, named in `graph.graph["server"]`. In a
    directed graph an agent receives the messages of its predecessors.

    Class attributes:
        varies: whether the graph changes between rounds. Only such a graph may be disconnected, and not in every round.
            It is then called in every round, with a new generator that is the same in all of them.

    Example:
        >>> from byzbench.registry import make
        >>> graph = make("topology", "ring")(4, 0, np.random.default_rng(0))
        >>> sorted(graph.edges)
        [(0, 1), (0, 3), (1, 2), (2, 3)]
    """

    kind: ClassVar[str] = "topology"
    varies: ClassVar[bool] = False

    def check(self, setting: Setting) -> None:
        """Check that the graph has no trusted server where agents gossip; see `Component.check`."""
        if setting.communication == Communication.DECENTRALIZED and setting.has_server:
            raise Undefined(
                f"{setting.name('algorithm')} gossips among agents, and topology {setting.name(self.kind)!r} has a "
                "trusted server at its centre: use --topology complete, or star:hub=agent"
            )

    @abstractmethod
    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """Return the graph of a round.

        Args:
            agents: K.
            round: the round, from 0.
            rng: a generator in the same initial state for all rounds.

        Raises:
            Undefined: the family has no graph of this size.
        """


@dataclass(frozen=True)
class Placement(Component):
    """A choice of the nodes that are Byzantine.

    Class attributes:
        joins: whether the Byzantine agents are added to the graph. If so, the topology is drawn for the K - f honest
            agents, `join` adds the agents K - f .. K - 1, and `__call__` returns these.

    Example:
        >>> import networkx as nx
        >>> from byzbench.registry import make
        >>> list(make("placement", "degree")(nx.star_graph(4), 1, np.random.default_rng(0)))
        [0]
    """

    kind: ClassVar[str] = "placement"
    joins: ClassVar[bool] = False

    def join(self, graph: nx.Graph, f: int, rng: np.random.Generator) -> nx.Graph:
        """Return the graph with f more agents; called in every round if the placement `joins`.

        Args:
            graph: the graph of the honest agents.
            f: the number of agents to add.
            rng: a generator in the same initial state for all rounds.
        """
        raise NotImplementedError

    @abstractmethod
    def __call__(self, graph: nx.Graph, f: int, rng: np.random.Generator) -> Sequence[int]:
        """Choose f distinct agents of the graph, never the server."""


@dataclass(frozen=True)
class Coin(Component):
    """A protocol by which agents obtain common randomness."""

    kind: ClassVar[str] = "coin"

    @abstractmethod
    def __call__(self, draw: Callable[[np.random.Generator], float], agents: int, rng: np.random.Generator) -> Tensor:
        """Return the value of `draw` as each agent obtains it, float64 [K].

        Args:
            draw: draws the value from a generator.
            agents: K.
            rng: the random stream of this draw.
        """

    def cost(self, agents: int) -> Sequence[tuple[int, int]]:
        """Return the messages of one draw at each agent, as pairs (number of messages, bytes of each).

        It is empty if the randomness was distributed in a set-up phase.
        """
        return ()
