"""Eclipse placement: Byzantine agents around one victim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.core import Placement
from byzbench.core.ranked_placement import agent_subgraph, count_agents, select_highest
from byzbench.errors import Undefined
from byzbench.geometry.graphs import in_neighbors


@dataclass(frozen=True)
class Eclipse(Placement):
    """Placement on the neighbours of a victim v that maximises the weight of Byzantine agents in its gossip.

        maximise sum_{j Byzantine} W_vj,   W_vj = 1 / (1 + max(d_v, d_j))

    W are the Metropolis weights of the graph. If f is larger than the number of neighbours, further Byzantine agents
    are placed by increasing distance from the victim.

    Source: Heilman, Kendler, Zohar, Goldberg 2015, Eclipse attacks on Bitcoin's peer-to-peer network, for the idea.

    Attributes:
        victim: v, an honest agent.

    Example:
        On a ring, two Byzantine agents are the neighbours of the victim:

        >>> sorted(Eclipse(victim=0)(nx.cycle_graph(6), 2, np.random.default_rng(0)))
        [1, 5]
    """

    source: ClassVar[str] = "Heilman et al. 2015, USENIX Security, for the idea"
    victim: Annotated[int, Field(ge=0, description="honest agent that is surrounded")] = 0

    def __call__(self, graph: nx.Graph, f: int, rng: np.random.Generator) -> Sequence[int]:
        """Return f agents in descending order of their weight at the victim; ties are broken at random.

        Raises:
            Undefined: the graph has no agent with the number of the victim.
        """
        agents, links = count_agents(graph), agent_subgraph(graph)
        if self.victim >= agents:
            raise Undefined(f"eclipse: agent {self.victim} is no victim; agents are 0 to {agents - 1}")
        neighbours = in_neighbors(links)
        degrees = [len(neighbours[agent]) for agent in range(agents)]
        reversed_links = links.reverse(copy=False) if links.is_directed() else links
        hops = nx.single_source_shortest_path_length(reversed_links, self.victim)
        scores = [1 / (2 + hops.get(agent, agents)) for agent in range(agents)]
        for agent in neighbours[self.victim]:
            scores[agent] = 1 + 1 / (1 + max(degrees[self.victim], degrees[agent]))
        scores[self.victim] = 0.0
        return select_highest(scores, f, rng)
