"""Eclipse: the liars surround one victim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.contracts import Placement
from byzbench.errors import Undefined
from byzbench.geometry.graphs import heard
from byzbench.placements._ranked import agents_of, highest, only_agents


@dataclass(frozen=True)
class Eclipse(Placement):
    """The liars take the seats that the victim hears, so that it gives them as large a weight as can be.

        maximise the sum over liars j of W_vj,   W_vj = 1 / (1 + max(d_v, d_j))

    W are Metropolis' weights of the graph. More liars than the victim has neighbours sit behind these, near ones first.

    Source: Heilman, Kendler, Zohar, Goldberg 2015, Eclipse attacks on Bitcoin's peer-to-peer network, for the idea.

    Attributes:
        victim: v, who does not lie.
    """

    source: ClassVar[str] = "Heilman et al. 2015, USENIX Security, for the idea"
    victim: Annotated[int, Field(ge=0, description="the agent that is surrounded")] = 0

    def __call__(self, graph: nx.Graph, f: int, rng: np.random.Generator) -> Sequence[int]:
        """Equals in random order."""
        agents, links = agents_of(graph), only_agents(graph)
        if self.victim >= agents:
            raise Undefined(f"eclipse: agent {self.victim} is no victim; agents are 0 to {agents - 1}")
        whom = heard(links)
        degrees = [len(whom[agent]) for agent in range(agents)]
        backwards = links.reverse(copy=False) if links.is_directed() else links
        hops = nx.single_source_shortest_path_length(backwards, self.victim)
        scores = [1 / (2 + hops.get(agent, agents)) for agent in range(agents)]
        for agent in whom[self.victim]:
            scores[agent] = 1 + 1 / (1 + max(degrees[self.victim], degrees[agent]))
        scores[self.victim] = 0.0
        return highest(scores, f, rng)
