"""Barabási-Albert graphs: who has links gets more of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.contracts import Range, Topology
from byzbench.topologies._drawn import at_least, tidy


@dataclass(frozen=True)
class BarabasiAlbert(Topology):
    """Agents come one by one, and each is linked to m others, drawn in proportion to the links that they have.

    Degrees follow a power law of exponent 3: a few hubs hold the graph together. A liar there is heard by many, and
    without it many are apart. Connected by construction. Agents come in the order of their numbers, from a star of
    m + 1 on, so low numbers tend to be hubs, and the placement `first` takes them.

    Source: Barabási, Albert 1999, Emergence of scaling in random networks, Science 286.

    Attributes:
        links: m, of each newcomer.
    """

    source: ClassVar[str] = "Barabási, Albert 1999, Science 286"
    links: Annotated[int, Field(ge=1, description="links of each newcomer"), Range(1, 5)] = 2

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """Drawn from rng, afresh at each call."""
        at_least(f"barabasi_albert: links={self.links}", agents, self.links + 1)
        return tidy(nx.barabasi_albert_graph(agents, self.links, int(rng.integers(2**32))))
