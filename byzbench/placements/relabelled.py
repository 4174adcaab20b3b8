"""Random placement that cannot be predicted from the seed of an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.core import Placement


@dataclass(frozen=True)
class RelabelledPlacement(Placement):
    """Placement of `random` after a permutation of the agents that is drawn from `salt`.

    It serves replays of submissions: a method that memorised the Byzantine agents of each seed does well with `random`
    and fails with this placement.

    Attributes:
        salt: the seed of the permutation.
    """

    salt: Annotated[int, Field(ge=0, lt=2**63, description="seed of the permutation")] = 0

    def __call__(self, graph: nx.Graph, f: int, rng: np.random.Generator) -> Sequence[int]:
        """Return the first f agents of a random permutation, renamed by the permutation of `salt`."""
        agents = len(graph) - ("server" in graph.graph)
        salt_rng = np.random.default_rng(self.salt)
        permuted = salt_rng.permutation(agents)
        return permuted[rng.permutation(agents)[:f]].tolist()
