"""Random regular graphs: everyone hears equally many, chosen at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.contracts import Topology
from byzbench.errors import Undefined
from byzbench.topologies._drawn import connected


@dataclass(frozen=True)
class RandomRegular(Topology):
    """A random connected graph in which all K agents have the same degree; sparse, yet it mixes fast.

    From degree 3 on almost every one is connected; those that are not are drawn again, up to 100 times.

    Source: Steger, Wormald 1999, Generating random regular graphs quickly; near-uniform: Kim, Vu 2003.

    Differs from the source in: a degree above K/2 is drawn as the complement of a sparse graph, because the pairing of
    the source practically never completes a dense one.
    """

    source: ClassVar[str] = "Steger, Wormald 1999; Kim, Vu 2003"
    degree: Annotated[int, Field(ge=1, description="links of each agent")] = 4

    def __call__(self, agents: int, round: int, rng: np.random.Generator) -> nx.Graph:
        """Drawn from rng, afresh at each call."""
        degree = self.degree
        if degree >= agents:
            raise Undefined(f"random_regular: degree={degree} needs at least {degree + 1} agents, got {agents}")
        if degree * agents % 2:
            raise Undefined(
                f"random_regular: degree={degree} times {agents} agents is odd; give an even degree or number of agents"
            )
        dense = degree > agents // 2

        def draw(seed: int) -> nx.Graph:
            drawn = nx.random_regular_graph(agents - 1 - degree if dense else degree, agents, seed)
            return nx.complement(drawn) if dense else drawn

        name = f"random_regular: degree={degree} on {agents} agents"
        return connected(draw, rng, name, "give a larger degree")
