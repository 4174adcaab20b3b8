"""Relabelled placement: the liars sit anywhere, and nobody who knows the seed can tell where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import networkx as nx
import numpy as np
from pydantic import Field

from byzbench.contracts import Placement


@dataclass(frozen=True)
class RelabelledPlacement(Placement):
    """As `random`, with the agents renamed: a further permutation, drawn from `salt`, decides who is who.

    For replays: a method that has learned by heart where the liars of a seed sit does well with `random`, and falls
    here.
    """

    salt: Annotated[int, Field(ge=0, lt=2**63, description="what the further permutation is drawn from")] = 0

    def __call__(self, graph: nx.Graph, f: int, rng: np.random.Generator) -> Sequence[int]:
        """The first f of the permuted permutation."""
        agents = len(graph) - ("server" in graph.graph)
        names = np.random.default_rng(self.salt)
        renamed = names.permutation(agents)
        return renamed[rng.permutation(agents)[:f]].tolist()
