"""Small worlds: a ring of near neighbours, and a few links across it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.contracts import Range, Topology
from byzbench.errors import Undefined
from byzbench.topologies._drawn import connected


@dataclass(frozen=True)
class SmallWorld(Topology):
    """K agents on a ring, linked to the k nearest; then each link gets a random other end with probability p.

    At p = 0 paths are long and cliquish, at p = 1 nearly as in a random graph; a small p suffices for short paths.

    Source: Watts, Strogatz 1998, Collective dynamics of 'small-world' networks, Nature 393.

    Differs from the source in: the graph is conditioned to be connected.

    Attributes:
        degree: k, even: half of them on either side.
        p: the probability that a link is rewired.
    """

    source: ClassVar[str] = "Watts, Strogatz 1998, Nature 393"
    degree: Annotated[int, Field(ge=2, multiple_of=2, description="neighbours on the ring, even"), Range(2, 8)] = 4
    p: Annotated[float, Field(ge=0, le=1, description="of a link to be rewired"), Range(0, 1)] = 0.1

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """Drawn from rng, afresh at each call."""
        if self.degree >= agents:
            raise Undefined(f"small_world: degree={self.degree} needs at least {self.degree + 1} agents, got {agents}")

        def draw(seed: int) -> nx.Graph:
            return nx.watts_strogatz_graph(agents, self.degree, self.p, seed)

        return connected(draw, rng, f"small_world: degree={self.degree} on {agents} agents", "give a larger degree")
